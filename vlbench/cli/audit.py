"""`vlbench audit`. torch is imported only where it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlbench.errors import ConfigError
from vlbench.files import check_writable, write_atomically
from vlbench.ranges import COUNTS, SEEDS


def audit(
    record: str,
    config: Sequence[str] = (),
    ckpt_path: Path | None = None,
    subset: Sequence[str] = (),
    json: Path | None = None,
    csv: Path | None = None,
    html: Path | None = None,
    folder: Path = Path("results"),
    draws: int = 10_000,
    seed: int = 0,
) -> int:
    """Test the method of a record again on its videos with frames reversed, shuffled, repeated and left out.

    The model and the data are those of the command line that the record holds; one process decodes every video once.
    The audit is written to audits/NAME.json in the record's results folder, where `vlbench leaderboard` finds it.

    Args:
        record: Path of a record, or the name of one below FOLDER.
        config: Configurations of the test, where the record does not name them or they lie elsewhere now.
        ckpt_path: Checkpoint of the test, together with CONFIG.
        subset: Subsets of the classes, each NAME=FILE, a class name a line or a CSV file with a column `name`.
        json: Second copy of the audit to write.
        csv: File to write, a line for each order of the frames on all videos, on each subset and each class.
        html: Page to write, with a figure; it loads nothing from elsewhere.
        folder: Results folder in which names are looked up.
        draws: Resampled sets of videos.
        seed: Seed of the resampling.

    Returns:
        0.
    """
    COUNTS.check("draws", draws)
    SEEDS.check("seed", seed)
    from vlbench.cli.audit_tables import print_audit
    from vlbench.results.audit import audit_csv, audit_json, audit_of, read_subset
    from vlbench.results.audits import audit_path
    from vlbench.results.stored import StoredEvaluation, find_record

    if ckpt_path is not None and not config:
        raise ConfigError("--ckpt_path is given without --config; give both as in the test, or neither")
    path = find_record(record, folder)
    stored = StoredEvaluation.load(str(path), folder)
    subsets = [read_subset(option, stored.classes) for option in subset]
    if len(dict(subsets)) < len(subsets):
        raise ConfigError("--subset names two subsets alike; give each a name of its own")
    for file in (json, csv, html):
        if file is not None and file.is_dir():
            raise ConfigError(f"{file} is a folder, and the name of a file that the audit writes; give another")
    check_writable(audit_path(path).parent, "the folder of audits")
    from vlbench.cli.process import importing

    with importing():
        from vlbench.cli.counterfactual import correct_in_orders
    correct = correct_in_orders(stored, path, config, ckpt_path)
    outcome = audit_of(stored, correct, dict(subsets), draws=draws, seed=seed)
    text = audit_json(outcome).encode()
    for target in (audit_path(path), json):
        if target is not None:
            write_atomically(target, text)
    if csv is not None:
        write_atomically(csv, audit_csv(outcome).encode())
    if html is not None:
        from vlbench.results.audit_page import audit_html

        write_atomically(html, audit_html(outcome).encode())
    print_audit(outcome)
    print(f"audit: {audit_path(path)}")  # noqa: T201 - tells the user where it went
    return 0
