"""What is asked of the Hugging Face Hub, and its refusals as one sentence each."""

import contextlib
from collections.abc import Iterator

# Of the errors of huggingface_hub and of the HTTP client below it, by their names: the client changed in its version 1.
_NO_NETWORK = (
    "ConnectError",
    "ConnectTimeout",
    "ReadTimeout",
    "ConnectionError",
    "Timeout",
    "OfflineModeIsEnabled",
    "LocalEntryNotFoundError",
)


@contextlib.contextmanager
def asking(repo: str, what: str) -> Iterator[None]:
    """Turn what goes wrong while the Hub is asked to do ``what`` with ``repo`` into one sentence.

    Raises:
        ValueError: the name is none, there is no such repository or file, or you may not.
        OSError: the Hub cannot be reached, or it failed.
    """
    try:
        yield
    except Exception as error:  # huggingface_hub, the HTTP client and the system raise what they like
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            HFValidationError,
            RepositoryNotFoundError,
        )

        names = {kind.__name__ for kind in type(error).__mro__}
        status = getattr(getattr(error, "response", None), "status_code", None)
        begun = f"cannot {what} {repo}:"
        if not names.isdisjoint(_NO_NETWORK):
            raise OSError(
                f"{begun} the Hub at {_endpoint()} cannot be reached, or HF_HUB_OFFLINE is set. Check the network and "
                "try again."
            ) from error
        if isinstance(error, HFValidationError):
            raise ValueError(f"{begun} that is no name of a repository. Give OWNER/NAME.") from error
        if isinstance(error, GatedRepoError):
            raise ValueError(
                f"{begun} its owner lets in those who ask. Ask on its page, and log in with `hf auth login`."
            ) from error
        if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
            raise ValueError(
                f"{begun} there is no such repository, or you may not. Check the name, and log in with "
                "`hf auth login`, or set HF_TOKEN."
            ) from error
        if isinstance(error, EntryNotFoundError) or "RevisionNotFoundError" in names:
            raise ValueError(f"{begun} it has no such file or revision. Look at its page.") from error
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise OSError(f"{begun} {why}. Try again.") from error


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
