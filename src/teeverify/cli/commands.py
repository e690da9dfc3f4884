"""All commands, in the order in which ``--help`` lists them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import NamedTuple

from teeverify.cli.ask import add_ask, ask
from teeverify.cli.bench import add_bench, bench
from teeverify.cli.capture import add_capture, capture
from teeverify.cli.demo import add_demo, demo
from teeverify.cli.doctor import add_doctor, doctor
from teeverify.cli.endorsements import add_endorsements, endorsements
from teeverify.cli.explain import add_explain, explain
from teeverify.cli.measure import add_measure, measure_command
from teeverify.cli.policy import add_policy_verbs, policy
from teeverify.cli.providers import providers
from teeverify.cli.serve import add_serve, serve
from teeverify.cli.show import add_diff, add_show, diff, show
from teeverify.cli.timestamp import add_timestamp, timestamp
from teeverify.cli.verify import verify
from teeverify.cli.verify_flags import add_verify

__all__ = ["COMMANDS", "Command"]


class Command(NamedTuple):
    """One command.

    Attributes:
        run: Does it, and gives the exit code.
        help: One line for the list of commands.
        description: What it does, and what it does not; the line above where that says it all.
        add: Adds its flags.
    """

    run: Callable[[argparse.Namespace], int]
    help: str
    description: str = ""
    add: Callable[[argparse.ArgumentParser], None] = lambda _: None


COMMANDS: Mapping[str, Command] = {
    "verify": Command(
        verify,
        "verify a receipt, an endpoint, recorded evidence, or an answer",
        "Verify evidence, or an answer with its signature and the evidence of its signer. What a "
        "source is, is worked out; many sources give a table and the worst code.",
        add_verify,
    ),
    "ask": Command(
        ask,
        "ask an endpoint one question, and verify its answer",
        "Attest an endpoint, ask it one question, verify the answer. The API key is read from "
        "TEEVERIFY_API_KEY or OPENAI_API_KEY.",
        add_ask,
    ),
    "capture": Command(
        capture,
        "record what an endpoint shows, to verify it later",
        "Record an endpoint's evidence under a new nonce. Verifies nothing.",
        add_capture,
    ),
    "show": Command(
        show,
        "show what a source holds; verifies nothing",
        "Show what a source holds. Nothing is verified.",
        add_show,
    ),
    "diff": Command(
        diff,
        "verify two sources, and say what differs",
        "Verify two sources offline, and say what differs between them.",
        add_diff,
    ),
    "explain": Command(
        explain,
        "say what a claim, a check, an error or a fault means",
        "Say what a claim, a check, an error or a fault means, and what to do; with a SOURCE, "
        "also what was found there.",
        add_explain,
    ),
    "policy": Command(
        policy,
        "show or check a policy, or write one from what is seen",
        "Show a policy in full, check a policy file, or write one: from the code of a source, or "
        "from a signed release.",
        add_policy_verbs,
    ),
    "providers": Command(providers, "list the providers, and what each can prove"),
    "endorsements": Command(
        endorsements,
        "fetch, show, move and forget what Intel, AMD and NVIDIA endorse",
        "Fetch what the vendors signed about a machine, show what is kept, take it to a machine "
        "without a network, and forget what is out of date.",
        add_endorsements,
    ),
    "measure": Command(
        measure_command,
        "compute the measurement that a VM must have",
        "Compute the measurement that a VM must have, from what it is launched with.",
        add_measure,
    ),
    "timestamp": Command(
        timestamp,
        "add a timestamp to a receipt",
        "Add an RFC 3161 timestamp to a receipt; without one, print the hash that it must be of. "
        "Verifies nothing.",
        add_timestamp,
    ),
    "doctor": Command(
        doctor,
        "say what this installation is, and what is odd about it",
        "Say what this installation is: versions, roots, cache, clock, network. Exit 1 where "
        "something is odd.",
        add_doctor,
    ),
    "serve": Command(
        serve,
        "run the enclave server, on a real TEE or a simulated one",
        "Run the enclave server. Prints its URL; when simulated, then the path of its test roots.",
        add_serve,
    ),
    "bench": Command(
        bench,
        "measure what verified inference costs",
        "Measure what verified confidential inference costs.",
        add_bench,
    ),
    "demo": Command(
        demo,
        "see an answer verified and attacks refused, on simulated hardware",
        "See an answer verified and attacks refused, on simulated hardware: no account, no "
        "network. The cryptography is real in every step; the keys at its top are this run's own.",
        add_demo,
    ),
}
