"""HTCondor's own reader of submit files makes of ours what is meant: ``nox -s htcondor``, which installs its Python bindings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from picas.launchers.base import Request
from picas.launchers.htcondor import HTCondor

if TYPE_CHECKING:
    from pathlib import Path

htcondor = pytest.importorskip(
    "htcondor", reason="the bindings of HTCondor are in a session of nox of their own"
)

pytestmark = pytest.mark.filterwarnings("default")  # of theirs


def _ads(request: Request, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The jobs that condor_submit would make, run in the folder of the script."""
    (script,) = HTCondor().scripts(request)
    for name, text in {script.name: script.text, **script.companions}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o700)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CONDOR_CONFIG", "ONLY_ENV")
    description = htcondor.Submit(script.text)
    pilots = description.getQArgs()
    return [dict(ad) for ad in description.jobs(count=int(pilots), clusterid=12)]


def test_what_is_asked_for_is_in_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, scripts = tmp_path / "work", tmp_path / "scripts"
    work.mkdir()
    scripts.mkdir()
    files = [tmp_path / name for name in ("pilot.pyz", "config.toml")]
    for file in files:
        file.write_text("")
    least = Request(pool="https://pool.example.org/mine", directory=work)
    most = replace(
        least,
        pilots=3,
        name="fit",
        cores=4,
        memory=8 * 2**30,
        gpus=1,
        walltime=45_000.5,
        account="lofar",
        constraint='OpSysAndVer == "AlmaLinux9" || Arch == "x"',
        options=('+JobFlavour = "workday"',),
        files=tuple(files),
    )
    ads = _ads(most, scripts, monkeypatch)
    assert [(ad["ClusterId"], ad["ProcId"]) for ad in ads] == [(12, 0), (12, 1), (12, 2)]
    ad = ads[1]
    assert (ad["Cmd"], ad["Iwd"]) == (str(scripts / "fit-pilot.sh"), str(work))
    assert (ad["Out"], ad["UserLog"]) == ("fit-12_1.out", str(work / "fit-12.log"))
    assert (ad["RequestCpus"], ad["RequestMemory"], ad["RequestGPUs"]) == (4, 8192, 1)
    assert ad["AllowedJobDuration"] == 45_001
    assert (ad["AcctGroup"], ad["JobBatchName"], ad["JobFlavour"]) == ("lofar", "fit", "workday")
    assert str(ad["Requirements"]).startswith('(OpSysAndVer == "AlmaLinux9" || Arch == "x")')
    assert (ad["ShouldTransferFiles"], ad["WhenToTransferOutput"]) == ("YES", "ON_EXIT")
    assert ad["TransferInput"].split(",") == [str(file) for file in files]
    assert str(ad["PeriodicRemove"]) == "JobStatus == 5"


def test_what_is_not_asked_for_is_left_to_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ad,) = _ads(Request(pool="https://pool.example.org/mine", directory=tmp_path), tmp_path, monkeypatch)
    assert (ad["RequestCpus"], ad["ShouldTransferFiles"], ad["TransferOutput"]) == (1, "IF_NEEDED", "")
    assert not {"AllowedJobDuration", "RequestGPUs", "AcctGroup", "TransferInput"} & set(ad)
