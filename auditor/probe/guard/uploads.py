"""Model hubs: a training script that pushes its checkpoints pushes nothing while it is audited."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

HUB = "huggingface_hub.hf_api"
NOTE = "Uploads to the Hugging Face Hub were left out."


def keep_from_hub(say: Callable[[str], None]) -> Callable[[ModuleType], None]:
    """What to do with the hub's client once it is imported: creating repositories and commits answers as if it had
    been done. Uploads of files and folders are commits, too. Reading goes on as ever."""

    def change(module: ModuleType) -> None:
        def create_repo(client: Any, repo_id: str, **options: Any) -> Any:
            say(NOTE)
            return module.RepoUrl(f"{client.endpoint}/{repo_id}")

        def create_commit(client: Any, repo_id: str, operations: Any, **options: Any) -> Any:
            say(NOTE)
            if options.get("run_as_future"):
                options["run_as_future"] = False
                return client.run_as_future(create_commit, client, repo_id, operations, **options)
            return module.CommitInfo(
                commit_url=f"{client.endpoint}/{repo_id}/commit/{'0' * 40}",
                commit_message=options.get("commit_message", ""),
                commit_description=options.get("commit_description") or "",
                oid="0" * 40,
            )

        def nothing(client: Any, *args: Any, **options: Any) -> None:
            say(NOTE)

        replacements: dict[str, Callable[..., Any]] = {
            "create_repo": create_repo,
            "create_commit": create_commit,
            **dict.fromkeys(("create_branch", "create_tag", "delete_repo", "preupload_lfs_files"), nothing),
        }
        api = getattr(module, "api", None)
        for name, replacement in replacements.items():
            original = getattr(module.HfApi, name, None)
            if original is None:
                continue
            setattr(module.HfApi, name, functools.wraps(original)(replacement))
            if api is not None and hasattr(module, name):
                setattr(module, name, getattr(api, name))

    return change
