"""What the address of a tracking store may be, told without MLflow."""

from reliabit.errors import ReliabitError

JOURNAL = "journal://"
NO_REGISTRY = "tracking=offline has no registry; use tracking=sqlite or tracking=server"


def check_address(uri: str) -> None:
    """Check that an address names a database, a server or a journal.

    Raises:
        ReliabitError: It is a plain folder.

    >>> check_address("sqlite:///mlruns/mlflow.db")
    """
    if "://" not in uri or uri.startswith("file:"):
        raise ReliabitError(f"tracking.uri={uri} is a plain folder, which MLflow 3 refuses; use sqlite:///<file>")


def check_registry(uri: str) -> None:
    """Check that an address may have a registry beside its runs.

    Raises:
        ReliabitError: Runs go to a journal, which has none, or it is a plain folder.
    """
    check_address(uri)
    if uri.startswith(JOURNAL):
        raise ReliabitError(NO_REGISTRY)
