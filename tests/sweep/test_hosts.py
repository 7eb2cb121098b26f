"""Processes of one sweep meet, wait for each other, end when one has died; threads stand for processes."""

import socket
import threading

import pytest

from tftjax.errors import UserError
from tftjax.sweep import hosts as sweep_hosts
from tftjax.sweep.hosts import ALONE, Host, join, leave, wait_for_all


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def together(*calls):
    """Calls functions in threads; returns what each returned or the UserError that it raised."""
    found = [None] * len(calls)

    def run(place, call):
        try:
            found[place] = call()
        except UserError as error:
            found[place] = error

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    return found


def meet(port, ids, count):
    return together(*(lambda i=i: join(f"localhost:{port}", str(i), str(count)) for i in ids))


def test_shares():
    members = list("abcdefg")
    shares = [Host(index, 3).share(members) for index in range(3)]
    assert shares == [["a", "d", "g"], ["b", "e"], ["c", "f"]]
    assert join(None, None, None).share(members) == members
    wait_for_all(ALONE, "nothing")
    leave(ALONE)


def test_three_wait_for_each_other_and_leave(port):
    hosts = meet(port, (2, 0, 1), 3)
    assert [host[:2] for host in hosts] == [(2, 3), (0, 3), (1, 3)]
    passed = []

    def come(host, late):
        late.wait(30)
        passed.append("late" if late is gate else "early")
        wait_for_all(host, "a moment")
        passed.append("through")

    gate, open_gate = threading.Event(), threading.Event()
    open_gate.set()
    early = [threading.Thread(target=come, args=(host, open_gate), daemon=True) for host in hosts[:2]]
    for thread in early:
        thread.start()
    early[0].join(timeout=0.3)
    assert passed == ["early", "early"]
    gate.set()
    come(hosts[2], gate)
    for thread in early:
        thread.join(timeout=30)
    assert passed == ["early", "early", "late", *["through"] * 3]
    # Whoever leaves first is not taken for dead by those that stay.
    for host in hosts:
        leave(host)
    assert all(host.connection.arrived.empty() for host in hosts)


def kill(host):
    """Ends a connection as the end of its process does."""
    host.connection.left.set()  # its own threads say nothing
    for other in host.connection.sockets.values():
        other.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("dies", [0, 1])
def test_one_that_dies_is_named(port, dies):
    hosts = meet(port, (0, 1), 2)
    kill(hosts[dies])
    with pytest.raises(UserError, match=f"process {dies} of the sweep has ended early.*--resume"):
        wait_for_all(hosts[1 - dies], "a moment")


def test_one_that_dies_ends_those_that_are_training(port, monkeypatch, capfd):
    ends, codes = threading.Event(), []
    monkeypatch.setattr(sweep_hosts, "GRACE", 0.1)
    monkeypatch.setattr(sweep_hosts.os, "_exit", lambda code: (codes.append(code), ends.set()))
    hosts = meet(port, (0, 1), 2)
    kill(hosts[1])
    assert ends.wait(30)
    assert codes == [2]
    assert capfd.readouterr().err.startswith("error: process 1 of the sweep has ended early")
    leave(hosts[0])


def test_silence_is_death(port, monkeypatch):
    monkeypatch.setattr(sweep_hosts, "HEARTBEAT_TIMEOUT", 0.2)  # shorter than the time between signs of life
    hosts = meet(port, (0, 1), 2)
    with pytest.raises(UserError, match="process 1 of the sweep has ended early, or cannot be reached"):
        wait_for_all(hosts[0], "a moment")
    for host in hosts:
        leave(host)


def test_other_commands_are_noticed(port):
    hosts = meet(port, (0, 1), 2)
    hosts[1].connection.send("made 2")
    with pytest.raises(UserError, match="process 1 is at 'made 2', this one, process 0, at 'made 1'"):
        wait_for_all(hosts[0], "made 1")
    for host in hosts:
        leave(host)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "0", None), "need --coordinator"),
        (("host:1", "0", None), "two whole numbers"),
        (("host:1", "2", "2"), "from 0 to num-processes - 1"),
        (("host:1", "-1", "2"), "from 0 to num-processes - 1"),
        (("host", "0", "2"), "expected HOST:PORT"),
        (("host:http", "0", "2"), "expected HOST:PORT"),
        (("host:99999", "0", "2"), "a port up to 65535"),
        (("host.invalid:1", "1", "2"), "cannot be used by process 1"),
    ],
)
def test_impossible_processes(arguments, message, monkeypatch):
    monkeypatch.setattr(sweep_hosts, "START_TIMEOUT", 0.1)
    with pytest.raises(UserError, match=message):
        join(*arguments)


def test_a_port_in_use(port):
    with sweep_hosts._listening(port), pytest.raises(UserError, match=r"cannot be used by process 0.*in use"):
        join(f"localhost:{port}", "0", "2")


@pytest.mark.parametrize(
    ("index", "message"), [("0", "process 1, 2 did not come within"), ("1", "cannot be used by process 1")]
)
def test_others_that_do_not_come(port, index, message, monkeypatch):
    monkeypatch.setattr(sweep_hosts, "START_TIMEOUT", 0.3)
    with pytest.raises(UserError, match=message):
        join(f"localhost:{port}", index, "3")


@pytest.mark.parametrize("other", [("1", "3"), ("1", "2")])
def test_numbers_that_do_not_fit_together(port, other):
    first = "3" if other[1] == "2" else "2"
    found = together(lambda: join(f"localhost:{port}", "0", first), lambda: join(f"localhost:{port}", *other))
    assert "expected each process-id once and the same number in all" in str(found[0])


def test_strangers_are_sent_away(port):
    def stranger():
        while True:
            try:
                with socket.create_connection(("localhost", port), timeout=30) as other:
                    other.sendall(b"GET / HTTP/1.1\r\n")
                    return other.recv(1)
            except ConnectionRefusedError:
                continue
            except ConnectionResetError:
                return b""

    first = threading.Thread(target=lambda: hosts.extend(meet(port, (0,), 2)), daemon=True)
    hosts = []
    first.start()
    assert stranger() == b""
    hosts += meet(port, (1,), 2)
    first.join(timeout=30)
    assert sorted(host.index for host in hosts) == [0, 1]
    for host in hosts:
        leave(host)
