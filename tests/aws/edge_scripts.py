"""The scripts of an edge, run as systemd runs them, with a made-up instance around them."""

import http.server
import os
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

DIST = Path(__file__).resolve().parents[2] / "edge-recorder" / "dist"


def stand_in(directory, name, log):
    """A program of that name that notes how it was called, and succeeds."""
    program = Path(directory) / name
    program.write_text(f'#!/bin/sh\necho "{name} $*" >> "{log}"\n')
    program.chmod(0o755)


class Instance:
    """The metadata of an instance and the recorder's admin port, on one address."""

    def __init__(self, states, drains):
        instance = self
        self.states, self.drains, self.asked = list(states), drains, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, text, status=200):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def do_PUT(self):
                self.answer("token")

            def do_GET(self):
                if self.headers.get("X-aws-ec2-metadata-token") != "token":
                    return self.answer("", 401)
                if self.path.endswith("/instance-id"):
                    return self.answer("i-1")
                state = instance.states.pop(0) if len(instance.states) > 1 else instance.states[0]
                instance.asked.append(state)
                self.answer(state)

            def do_POST(self):
                instance.asked.append(f"POST {self.path}")
                self.answer("draining\n", 202)
                if instance.drains is not None:
                    instance.drains -= 1
                    if instance.drains == 0:
                        instance.admin.server_close()
                        threading.Thread(target=instance.admin.shutdown).start()

            def log_message(self, *_):
                pass

        self.metadata = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.admin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        for server in (self.metadata, self.admin):
            threading.Thread(target=server.serve_forever, daemon=True).start()

    @staticmethod
    def url(server):
        return f"http://127.0.0.1:{server.server_address[1]}"


class Scripts(unittest.TestCase):
    def drain(self, instance, deadline_secs, seconds):
        """Runs linekeeper-drain until it has drained; gives what it called."""
        with tempfile.TemporaryDirectory() as directory:
            log = Path(directory) / "calls"
            log.touch()
            for name in ("aws", "systemctl"):
                stand_in(directory, name, log)
            environment = {
                **os.environ,
                "PATH": f"{directory}:{os.environ['PATH']}",
                "LINEKEEPER_ASG": "group",
                "LINEKEEPER_LIFECYCLE_HOOK": "drain",
                "LINEKEEPER_DRAIN_DEADLINE_SECS": str(deadline_secs),
                "LINEKEEPER_METADATA_URL": Instance.url(instance.metadata),
                "LINEKEEPER_ADMIN_URL": Instance.url(instance.admin),
                "LINEKEEPER_DRAIN_LOOK_SECS": "0.2",
                "LINEKEEPER_DRAIN_BEAT_SECS": "1",
            }
            process = subprocess.Popen(
                [DIST / "linekeeper-drain"], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
            self.addCleanup(process.stdout.close)
            self.addCleanup(lambda: os.killpg(process.pid, 9))
            deadline = time.monotonic() + seconds
            while "complete-lifecycle-action" not in log.read_text():
                self.assertLess(time.monotonic(), deadline, log.read_text())
                time.sleep(0.1)
            return log.read_text().splitlines()

    def test_an_instance_to_be_terminated_is_drained_and_let_go_when_its_calls_have_ended(self):
        instance = Instance(["InService", "InService", "Terminated"], drains=8)
        calls = self.drain(instance, 3600, 30)
        self.assertEqual(instance.asked[:3], ["InService", "InService", "Terminated"])
        self.assertEqual(instance.asked[3:], ["POST /drain"] * 8)
        of_group = "--auto-scaling-group-name group --lifecycle-hook-name drain --instance-id i-1"
        self.assertIn(f"aws autoscaling record-lifecycle-action-heartbeat {of_group}", calls)
        self.assertEqual(
            calls[-2:],
            ["systemctl stop linekeeper-edge.service",
             f"aws autoscaling complete-lifecycle-action {of_group} --lifecycle-action-result CONTINUE"],
        )

    def test_a_call_that_does_not_end_holds_an_instance_until_the_deadline_and_no_longer(self):
        began = time.monotonic()
        calls = self.drain(Instance(["Terminated"], drains=None), 3, 30)
        # The shell counts whole seconds.
        self.assertGreaterEqual(time.monotonic() - began, 2)
        beats = [call for call in calls if "heartbeat" in call]
        self.assertGreaterEqual(len(beats), 2, calls)
        self.assertTrue(calls[-1].startswith("aws autoscaling complete-lifecycle-action"), calls)

    def test_units_are_what_systemd_understands(self):
        units = sorted(DIST.glob("*.service")) + sorted(DIST.glob("*.timer"))
        self.assertEqual(len(units), 4)
        found = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
        # The programs are installed on edges only.
        wrong = [line for line in found.stderr.splitlines() if "is not executable" not in line]
        self.assertEqual(wrong, [])
