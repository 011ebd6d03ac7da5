"""A deployment on an emulator that runs the real programs: the functions as Lambda runs them, and
an edge beside it. What is asked of it goes through the deployed HTTP API."""

import contextlib
import io
import json
import os
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

FUNCTIONS = ["indexer", "finalizer", "reaper", "retention", "api", "setup"]
# Where cargo put the programs; `cargo xtask test` says it.
BINARIES = os.environ.get("LINEKEEPER_BINARIES")


def wait(what, seconds, ask):
    """Asks until there is an answer that is not None or False."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.1)


def bundle(function):
    """The function as its zip; stored, because packing 60 MB of symbols takes seconds."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, (Path(BINARIES) / function).read_bytes())
    return made.getvalue()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Api:
    """The deployed HTTP API, asked by its own host name as API Gateway wants it."""

    def __init__(self, address, api_id):
        self.address, self.host, self.token = address, f"{api_id}.execute-api.localhost", None
        self.opener = urllib.request.build_opener(NoRedirect)

    def ask(self, method, path, body=None, **headers):
        headers = {"Host": self.host, **headers}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with self.opener.open(request, timeout=60) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, dict(answer.headers), answer.read()

    def get(self, path):
        status, _, body = self.ask("GET", path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def sign_in(self, login, password):
        status, _, body = self.ask("POST", "/v1/session", {"login": login, "password": password, "token": True})
        assert status == 200, (status, body)
        self.token = json.loads(body)["token"]

    def recordings(self, query=""):
        """All of them, page by page."""
        found, cursor = [], None
        while True:
            page = self.get(f"/v1/recordings?limit=50{query}" + (f"&cursor={cursor}" if cursor else ""))
            found += page["recordings"]
            cursor = page["next"]
            if cursor is None:
                return found


class Edge:
    """The recorder's own program, over the emulator."""

    def __init__(self, address, data, command_queue, directory):
        self.directory = Path(directory)
        # The same after a restart: whoever calls comes back to it.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.health_port = probe.getsockname()[1]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-subj", "/CN=a", "-keyout", self.directory / "key.pem", "-out", self.directory / "cert.pem"],
            check=True, capture_output=True,
        )
        (self.directory / "edge.toml").write_text(
            f'[edge]\nname = "a"\n[sip]\nlisten = "127.0.0.1:{port}"\n[rtp]\naddress = "127.0.0.1"\n'
            f'[journal]\ndir = "{self.directory}/journal"\nmin_free_bytes = 1\n[admin]\nlisten = "127.0.0.1:0"\n'
            f'[admin.health]\nlisten = "127.0.0.1:{self.health_port}"\n'
            f'certificate = "{self.directory}/cert.pem"\nkey = "{self.directory}/key.pem"\n'
        )
        self.environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": address,
            "AWS_REGION": "eu-west-1",
            "LINEKEEPER_AWS_TEST_MODE": "1",
            "LINEKEEPER_BUCKET": data["MediaBucketName"],
            "LINEKEEPER_EVENTS_QUEUE_URL": data["EventQueueUrl"],
            "LINEKEEPER_COMMANDS_QUEUE_URL": command_queue,
        }
        self.process = None

    def start(self):
        with (self.directory / "log").open("a") as log:
            self.process = subprocess.Popen(
                [Path(BINARIES) / "edge-recorder", "--config", self.directory / "edge.toml"],
                stdout=subprocess.PIPE, stderr=log, env=self.environment, text=True,
            )
        line = self.process.stdout.readline()
        assert line, (self.directory / "log").read_text()
        self.ready = json.loads(line)
        wait("the edge to take calls", 30, lambda: self.health()[0] == 200)
        return self

    def health(self):
        try:
            with urllib.request.urlopen(self.ready["admin"] + "/healthz", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()

    def seen_from_outside(self, path):
        """What a health check of another machine gets."""
        trusting = ssl.create_default_context(cafile=self.directory / "cert.pem")
        trusting.check_hostname = False
        try:
            url = f"https://127.0.0.1:{self.health_port}{path}"
            with urllib.request.urlopen(url, timeout=5, context=trusting) as answer:
                return answer.status
        except urllib.error.HTTPError as answer:
            return answer.code

    def call(self, seconds, calls=1):
        """Places calls and returns at once."""
        return subprocess.Popen(
            [Path(BINARIES) / "linekeeper", "call", self.ready["sip"], "--transport", "udp", "--seconds", str(seconds),
             "--calls", str(calls)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def drain(self):
        self.process.terminate()
        return self.process.wait(90)


@contextlib.contextmanager
def deployment(address, deploy, only, client):
    """Data and app stacks with the real functions, prepared; gives (data, app, api)."""
    data = deploy(address, "data", "data.yaml")
    s3 = client("s3", address)
    for function in FUNCTIONS:
        s3.put_object(Bucket=data["ArtifactBucketName"], Key=f"r1/functions/{function}.zip", Body=bundle(function))
    app = deploy(address, "app", "app.yaml", Release="r1", EndpointUrl=address, **only("app.yaml", data))
    api = Api(address, app["HttpApiId"])
    yield data, app, api


def invoke(client, address, function, payload=None):
    answer = client("lambda", address).invoke(FunctionName=f"linekeeper-{function}", Payload=json.dumps(payload or {}))
    body = json.loads(answer["Payload"].read() or "null")
    assert "FunctionError" not in answer, (function, body)
    return body


def temporary():
    return tempfile.TemporaryDirectory(prefix="linekeeper-edge-")
