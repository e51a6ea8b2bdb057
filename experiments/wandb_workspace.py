"""python -m experiments.wandb_workspace ENTITY: saves a view of all runs to Weights & Biases, made from code.

Scores over frames with seeds grouped, evaluation videos, losses and speeds, as the local dashboard shows them. Needs
the extra `workspace` (`pip install -e '.[workspace]'` in the clone) and a key (`wandb login`).
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from envs.extras import how_to_install

SECTIONS = {
    "Scores": ("eval/mean", "charts/episodic_return", "eval/human_normalised_mean"),
    "Learning": ("losses/loss", "losses/q_values", "charts/epsilon", "charts/updates"),
    "Machine": ("charts/FPS", "system/memory_gb", "system/cpu_percent"),
}


@dataclass(frozen=True)
class Workspace:
    """Saves a view of a project's runs: seeds of a group as a mean with its spread, over emulator frames."""

    entity: Annotated[str, tyro.conf.Positional]
    """the user or team that the project belongs to"""
    wandb_project: str = "highscore"
    """the project"""
    name: str = "Highscore"
    """of the view"""


def workspace(entity: str, project: str, name: str) -> Any:
    """The view, not saved yet.

    Raises:
        ValueError: wandb-workspaces is not installed; with the command that does.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise ValueError("this needs wandb-workspaces: " + how_to_install("workspace")) from None

    def panel(metric: str) -> Any:
        return wr.LinePlot(
            title=metric, x="frames", y=[metric], groupby="group", groupby_aggfunc="mean", groupby_rangefunc="stderr"
        )

    sections = [
        ws.Section(name=title, panels=[panel(metric) for metric in metrics], is_open=True)
        for title, metrics in SECTIONS.items()
    ]
    sections.insert(1, ws.Section(name="Films", panels=[wr.MediaBrowser(media_keys=["eval/video"])], is_open=True))
    settings = ws.WorkspaceSettings(x_axis="frames")
    return ws.Workspace(entity=entity, project=project, name=name, sections=sections, settings=settings)


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse

    options = parse(Workspace, args, prog="python -m experiments.wandb_workspace")
    saved = workspace(options.entity, options.wandb_project, options.name).save()
    print(f"saved: {saved.url}")
    return 0


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("wandb_workspace", sys.argv[1:]))
