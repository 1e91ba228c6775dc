"""Passwords are hashed one at a time, with a lower priority than calls have."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
from django.contrib.auth import hashers
from django.contrib.auth.hashers import BasePasswordHasher, PBKDF2PasswordHasher, ScryptPasswordHasher

from chatproxy.page_protection.password_hashing import NICENESS, PBKDF2, Scrypt, hashing_thread


def test_it_reads_what_django_has_hashed() -> None:
    """Our hashers verify Django's hashes, and Django's verify ours: an older version may run beside this one."""
    for ours, theirs in (
        (Scrypt(), hashers.ScryptPasswordHasher()),
        (PBKDF2(), hashers.PBKDF2PasswordHasher()),
    ):
        assert ours.algorithm == theirs.algorithm
        assert ours.verify("a password", theirs.encode("a password", "salt"))
        assert theirs.verify("a password", ours.encode("a password", "salt"))
        assert not ours.verify("another", theirs.encode("a password", "salt"))


def test_the_gateway_hashes_with_it() -> None:
    assert isinstance(hashers.get_hasher(), Scrypt)
    assert all(isinstance(hasher, Scrypt | PBKDF2) for hasher in hashers.get_hashers())


class Counting:
    """An `encode` that counts how many run at the same time, and in which threads."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.threads: set[int] = set()

    def encode(self, password: str, salt: str, *_parameters: int | None) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        self.threads.add(threading.get_native_id())
        self.running -= 1
        return password + salt


@pytest.mark.parametrize(("ours", "theirs"), [(Scrypt, ScryptPasswordHasher), (PBKDF2, PBKDF2PasswordHasher)])
def test_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, ours: type[Scrypt | PBKDF2], theirs: type[BasePasswordHasher]
) -> None:
    counting = Counting()
    monkeypatch.setattr(theirs, "encode", lambda _self, *arguments: counting.encode(*arguments))
    with ThreadPoolExecutor(8) as askers:
        assert list(askers.map(ours().encode, "abcdefgh" * 20, "s" * 160)) == [one + "s" for one in "abcdefgh" * 20]
    assert counting.most == len(counting.threads) == 1
    assert counting.threads != {threading.get_native_id()}


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(TypeError):
        Scrypt().encode(cast(str, None), "salt")


def test_calls_go_first() -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = hashing_thread().submit(threading.get_native_id).result()
    assert os.getpriority(os.PRIO_PROCESS, thread) == max(own, NICENESS)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
