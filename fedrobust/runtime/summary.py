"""What ``summary.json`` holds of a finished run, and the warnings that the user gets with it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Mapping, Sequence

from fedrobust.attacks.hooks import is_active
from fedrobust.errors import UserError
from fedrobust.evaluation.detection import detection_summary
from fedrobust.results.records import Fault, RoundLine, Summary, SummaryThreat, VerdictLine, expected_updates
from fedrobust.runtime.setup import Setup
from fedrobust.scenario import Scenario, Threat

__all__ = ["failure", "skipped", "summarise"]

Lines = Sequence[RoundLine]


def summarise(
    setup: Setup,
    lines: Lines,
    verdicts: Sequence[VerdictLine],
    replied: Collection[int],
    seconds: float,
    folder: str,
) -> Summary:
    """Return the summary of a run; warn of what the user must know before the metrics.

    Parameters
    ----------
    setup : Setup
    lines, verdicts : sequence of records
        The lines of ``rounds.jsonl`` and ``verdicts.jsonl``.
    replied : collection of int
        The hospitals that sent a usable update in some round.
    seconds : float
        How long the run took.
    folder : str
        The run folder's final place.
    """
    scenario, share, failed = setup.scenario, setup.server_data, failure(lines, replied)
    written = scenario.run.written
    summary = Summary.of(
        setup.task.summary(lines[-1]),
        detection=detection_summary(
            verdicts,
            setup.malicious,
            scenario.hospitals,
            expected_updates(lines, max((one.round for one in verdicts if one.hospitals), default=0)),
        ),
        no_effect_attacks=_no_effect_attacks(lines),
        no_effect_steps=() if failed else lines[-1].no_effect_steps,
        failed_attacks=sorted(_failed_attacks(setup.attacks, replied)),
        failed=failed is not None,
        failure=failed,
        server_images=0 if share is None else len(share.labels),
        server_share=0.0 if share is None else share.share,
        faults=sum(len(line.faults) for line in lines),
        clients=scenario.hospitals,
        malicious=len(setup.malicious),
        atypical=scenario.atypical,
        attack="; ".join(threat.attacks.text for threat in scenario.threats if threat.malicious) or None,
        threats=_threats(scenario, lines, 1 / len(setup.data.records.classes)),
        **{key: written[key] for key in ("strategy", "data", "partition", "backbone", "head", "networks")},
        rounds=len(lines),
        seed=scenario.seed,
        synthetic=setup.data.records.synthetic,
        seconds=round(seconds, 3),
        run=folder,
    )
    for sentence in _warnings(setup, summary, lines):
        warnings.warn(sentence, UserWarning, stacklevel=2)
    return summary


def failure(lines: Lines, replied: Collection[int]) -> str | None:
    """Return in one sentence that no round gave a model; None if one did."""
    if not replied:
        return f"all hospitals failed in every round, so the model is untrained; {_first_reason(lines)}"
    if all(line.not_kept for line in lines):
        return f"no round gave a model that could be kept, so the model is untrained; {lines[0].not_kept}"
    return None


def skipped(lines: Lines) -> list[str]:
    """Return in one sentence which rounds gave no model; nothing where all did."""
    without = [line for line in lines if line.not_kept]
    if not without:
        return []
    rounds = f"round {without[0].round}" if len(without) == 1 else f"{len(without)} of {len(lines)} rounds"
    first = "" if len(without) == 1 else f"round {without[0].round}: "
    return [f"{rounds} gave no model, and the last good one was kept; {first}{without[0].not_kept}"]


def _threats(scenario: Scenario, lines: Lines, chance: float) -> list[SummaryThreat]:
    """Return what each threat did, and what is left of it; nothing is where it did no better than chance."""
    found = []
    for place, threat in enumerate(scenario.threats):
        rates = {line.round: line.attack_success_rates[place] for line in lines if line.attack_success_rates}
        last = _last_round(scenario, threat, lines)
        final, then = rates.get(lines[-1].round), rates.get(last) if last else None
        ended = last is not None and last < lines[-1].round
        found.append(
            SummaryThreat(
                attack=threat.attacks.text,
                hospitals=threat.hospitals,
                malicious=threat.malicious,
                attack_success_rate=final,
                last_round=last,
                success_at_its_end=then,
                durability=final / then if ended and then and then > chance and final is not None else None,
            )
        )
    return found


def _last_round(scenario: Scenario, threat: Threat, lines: Lines) -> int | None:
    """Return the last round in which one of the threat's hospitals was asked and its chain was active."""
    chain = scenario.attacks_of(threat.hospitals[0])
    for line in reversed(lines):
        asked = line.asked is None or set(line.asked).intersection(threat.hospitals)
        # One that fails has failed in its hospital, too.
        with contextlib.suppress(UserError):
            if asked and all(is_active(behaviour, line.round) for behaviour in chain):
                return line.round
    return None


def _no_effect_attacks(lines: Lines) -> list[str]:
    """Return the attacks that had no effect in any round."""
    return sorted(set.intersection(*(set(line.no_effect_attacks) for line in lines)))


def _failed_attacks(attacks: Mapping[int, frozenset[str]], replied: Collection[int]) -> frozenset[str]:
    """Return the attacks that never ran: none of their hospitals ever sent a usable update."""
    ran: frozenset[str] = frozenset().union(
        *(names for number, names in attacks.items() if number in replied)
    )
    return frozenset().union(*attacks.values()) - ran


def _first_reason(lines: Lines, among: Collection[int] | None = None) -> str:
    """Return the first failure of the run as 'hospital 3: why'."""
    faults = (fault for line in lines for fault in line.faults)
    first: Fault | None = next((one for one in faults if among is None or one.hospital in among), None)
    return "no hospital replied" if first is None else f"hospital {first.hospital}: {first.reason}"


def _warnings(setup: Setup, summary: Summary, lines: Lines) -> list[str]:
    """Return what the user must know before the metrics, the gravest first."""
    diverged = ["training diverged: the loss of the last model is not a finite number"] * summary.diverged
    if summary.failure:
        return [summary.failure, *diverged]
    found = []
    for name in summary.failed_attacks:
        hospitals = [number for number, names in setup.attacks.items() if name in names]
        why = _first_reason(lines, hospitals)
        if all(line.asked is not None and not {*line.asked}.intersection(hospitals) for line in lines):
            found.append(f"attack '{name}' never ran, as its hospitals were never asked")
            continue
        found.append(f"attack '{name}' never ran, as its hospitals failed in every round; {why}")
    found += skipped(lines)
    found += diverged
    found += [f"attack '{name}' had no effect in this run" for name in summary.no_effect_attacks]
    return found + (setup.monitor.messages(len(setup.malicious)) if setup.monitor else [])
