"""Deploys the stacks on emulators of AWS: the edge on moto, which has instances, addresses and DNS;
data, app and their alarms on ministack, which runs functions and takes the HTTP API.

moto reports a stack as complete although it left out what it does not know, and says so only in
its log: the log is read. `cargo xtask test` runs it; alone: TOOLS/bin/python tests/aws/check_deployment.py
"""

import contextlib
import datetime
import io
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
import zipfile
from pathlib import Path

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="eu-west-1")
os.environ.pop("AWS_PROFILE", None)

import boto3
from botocore.config import Config

import deployed
import deployed_events
from edge_scripts import DIST, Scripts, stand_in

INFRA = Path(__file__).resolve().parents[2] / "infra"
TOOLS = Path(sys.executable).parent


@contextlib.contextmanager
def emulator(*command, port_argument=None, environment=None):
    """Starts it on a free port of loopback; gives (address, path of its log)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [*command, *([port_argument, str(port)] if port_argument else [])],
                stdout=out, stderr=out, cwd=directory,
                env={**os.environ, **{k: v.replace("PORT", str(port)) for k, v in (environment or {}).items()}},
            )
        try:
            deadline = time.monotonic() + 90
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"{command[0]} did not start:\n{log.read_text()}") from None
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}", log
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def client(service, address):
    return boto3.client(service, endpoint_url=address, config=Config(retries={"max_attempts": 1}))


def deploy(address, name, file, **parameters):
    """Creates the stack; gives its outputs, or raises with what failed."""
    cloudformation = client("cloudformation", address)
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=(INFRA / file).read_text(),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    deadline = time.monotonic() + 120
    while True:
        stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name}: {stack['StackStatus']}")
        time.sleep(0.2)
    if stack["StackStatus"] != "CREATE_COMPLETE":
        events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        failed = [(e["LogicalResourceId"], e.get("ResourceStatusReason")) for e in events if "FAILED" in e["ResourceStatus"]]
        raise RuntimeError(f"{name}: {stack['StackStatus']} {failed}")
    return {o["OutputKey"]: o["OutputValue"] for o in stack.get("Outputs", [])}


def only(template, values):
    """Of the outputs of other stacks, those that this template takes."""
    text = (INFRA / template).read_text()
    return {k: v for k, v in values.items() if f"\n  {k}:" in text.split("\nResources:")[0]}


class Deployment(unittest.TestCase):
    def test_two_edges_are_deployed_on_moto_and_nothing_is_left_out(self):
        moto = emulator(TOOLS / "moto_server", "-H", "127.0.0.1", port_argument="-p")
        with moto as (address, log):
            subnet = client("ec2", address).describe_subnets()["Subnets"][0]
            route53 = client("route53", address)
            zone = route53.create_hosted_zone(Name="recorder.example.com", CallerReference="1")
            zone = zone["HostedZone"]["Id"].split("/")[-1]
            common = {
                "Release": "r1",
                "VpcId": subnet["VpcId"],
                "SubnetId": subnet["SubnetId"],
                "AvailabilityZone": subnet["AvailabilityZone"],
                "SbcCidr1": "192.0.2.0/24",
                "HostedZoneId": zone,
                "RecorderDomain": "recorder.example.com",
                "CertificateArn": "arn:aws:acm:eu-west-1:123456789012:certificate/1",
                "MediaBucketName": "media",
                "MediaKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/x",
                "ArtifactBucketName": "artifacts",
                "OperationsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/y",
                "EventQueueUrl": f"{address}/123456789012/events",
                "EventQueueArn": "arn:aws:sqs:eu-west-1:123456789012:events",
            }
            public = deploy(
                address, "edge-a", "edge.yaml", **common, EdgeName="a", Naptr="yes",
                HealthCheckPrefixListId="pl-0123456789abcdef0", FailoverRole="PRIMARY",
            )
            private = deploy(
                address, "edge-b", "edge.yaml", **common, EdgeName="b", Reach="private",
                PrivateAddress="172.31.0.77", SbcCidr2="10.0.0.0/8", FailoverRole="SECONDARY",
            )
            self.assertEqual(private["Address"], "172.31.0.77")

            groups = client("autoscaling", address).describe_auto_scaling_groups()["AutoScalingGroups"]
            self.assertEqual(
                sorted((g["AutoScalingGroupName"], g["MinSize"], g["MaxSize"]) for g in groups),
                [("linekeeper-edge-a", 1, 1), ("linekeeper-edge-b", 1, 1)],
            )
            addresses = client("ec2", address).describe_addresses()["Addresses"]
            self.assertEqual([a["PublicIp"] for a in addresses], [public["Address"]])
            volumes = client("ec2", address).describe_volumes(VolumeIds=[public["JournalVolumeId"]])["Volumes"]
            self.assertEqual([(v["Size"], v["AvailabilityZone"]) for v in volumes], [(100, subnet["AvailabilityZone"])])

            records = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
            found = {(r["Name"].rstrip("."), r["Type"], r.get("SetIdentifier")) for r in records}
            domain = "recorder.example.com"
            for edge in ("a", "b"):
                self.assertIn((f"{edge}.{domain}", "A", None), found)
                self.assertIn((domain, "A", edge), found)
                for service in ("_sips._tcp", "_sip._tcp", "_sip._udp"):
                    self.assertIn((f"{service}.{domain}", "SRV", edge), found)
            self.assertIn((domain, "NAPTR", None), found)

            said = log.read_text()
            self.assertNotIn("No Moto CloudFormation support", said)
            self.assertNotIn("Traceback", said)

    def test_a_network_for_private_edges_is_deployed_on_ministack(self):
        # Not on moto, which does not know Fn::Cidr.
        ministack = emulator(TOOLS / "ministack", environment={"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": "PORT"})
        with ministack as (address, _):
            network = deploy(address, "network", "network.yaml", PrivateEdges="yes")
            ec2 = client("ec2", address)
            inside = [{"Name": "vpc-id", "Values": [network["VpcId"]]}]
            endpoints = ec2.describe_vpc_endpoints(Filters=inside)["VpcEndpoints"]
            # What an edge calls, and Session Manager; S3 and DynamoDB by route.
            self.assertEqual(
                {e["ServiceName"].rsplit(".", 1)[1] for e in endpoints},
                {"s3", "dynamodb", "sqs", "ec2", "autoscaling", "cloudformation", "monitoring", "logs", "acm",
                 "secretsmanager", "ssm", "ssmmessages"},
            )
            self.assertNotEqual(network["AvailabilityZoneA"], network["AvailabilityZoneB"])
            # Nothing leads from a private subnet to the internet.
            tables = ec2.describe_route_tables(RouteTableIds=[network["PrivateRouteTableId"]])["RouteTables"]
            self.assertNotIn("0.0.0.0/0", [r.get("DestinationCidrBlock") for r in tables[0]["Routes"]])
            private = {network["PrivateSubnetA"], network["PrivateSubnetB"]}
            self.assertEqual({a.get("SubnetId") for a in tables[0]["Associations"]} - {None}, private)

    def test_two_regions_are_deployed_on_ministack_in_the_order_of_the_guide(self):
        ministack = emulator(TOOLS / "ministack", environment={"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": "PORT"})
        with ministack as (address, _):
            first = deploy(address, "first", "data.yaml")
            of_first = {"PeerMediaKeyId": first["MediaKeyId"], "PeerTableKeyId": first["TableKeyId"]}
            # Another deployment's name stands for another region: the emulator has one.
            second = deploy(
                address, "second", "data.yaml", Deployment="second", Role="replica", PeerRegion="eu-west-2", **of_first
            )
            tables = client("dynamodb", address).list_tables()["TableNames"]
            self.assertEqual(tables, [first["TableName"]], "the replica of a table is made by the primary")
            versions = client("s3", address).get_bucket_versioning(Bucket=second["MediaBucketName"])
            self.assertEqual(versions["Status"], "Enabled", "replication needs versions")

    def test_data_app_and_alarms_are_deployed_on_ministack(self):
        ministack = emulator(
            TOOLS / "ministack",
            environment={"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": "PORT", "LAMBDA_EXECUTOR": "local"},
        )
        with ministack as (address, _):
            data = deploy(address, "data", "data.yaml")
            bundle = io.BytesIO()
            with zipfile.ZipFile(bundle, "w") as archive:
                entry = zipfile.ZipInfo("bootstrap")
                entry.external_attr = 0o755 << 16
                archive.writestr(entry, "#!/bin/sh\nexit 1\n")
            s3 = client("s3", address)
            for function in deployed.FUNCTIONS:
                key = f"r1/functions/{function}.zip"
                s3.put_object(Bucket=data["ArtifactBucketName"], Key=key, Body=bundle.getvalue())
            app = deploy(address, "app", "app.yaml", Release="r1", EndpointUrl=address, **only("app.yaml", data))
            deploy(address, "app-watch", "app-watch.yaml", **only("app-watch.yaml", {**data, **app}))
            edge = {"EdgeName": "a", "CommandQueueUrl": data["EventQueueUrl"]}
            deploy(address, "edge-watch", "edge-watch.yaml", **edge, **only("edge-watch.yaml", data))

            functions = client("lambda", address).list_functions()["Functions"]
            self.assertEqual(
                sorted(f["FunctionName"] for f in functions), sorted(f"linekeeper-{f}" for f in deployed.FUNCTIONS)
            )
            self.assertEqual({f["Runtime"] for f in functions}, {"provided.al2023"})
            sources = client("lambda", address).list_event_source_mappings()["EventSourceMappings"]
            self.assertEqual(len(sources), 2)
            routes = client("apigatewayv2", address).get_routes(ApiId=app["HttpApiId"])["Items"]
            self.assertEqual({r["RouteKey"] for r in routes}, {"ANY /v1/{proxy+}", "POST /v1/session"})
            table = client("dynamodb", address).describe_table(TableName=data["TableName"])["Table"]
            self.assertEqual({i["IndexName"] for i in table["GlobalSecondaryIndexes"]}, {"gsi1", "gsi2", "gsi3"})
            queue = client("sqs", address).get_queue_attributes(
                QueueUrl=data["EventQueueUrl"], AttributeNames=["VisibilityTimeout", "RedrivePolicy"]
            )["Attributes"]
            self.assertEqual(queue["VisibilityTimeout"], "180")
            self.assertIn("1000", queue["RedrivePolicy"])


@unittest.skipUnless(deployed.BINARIES, "LINEKEEPER_BINARIES does not say where the programs are")
class Running(unittest.TestCase):
    """The programs in their deployment: what leaves an edge is listed, played, and outlives the edge."""

    @classmethod
    def setUpClass(cls):
        environment = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": "PORT", "LAMBDA_EXECUTOR": "local"}
        cls.address, _ = cls.enterClassContext(emulator(TOOLS / "ministack", environment=environment))
        cls.data, cls.app, cls.api = cls.enterClassContext(deployed.deployment(cls.address, deploy, only, client))
        cls.sqs = client("sqs", cls.address)
        cls.commands = cls.sqs.create_queue(QueueName="linekeeper-commands-a")["QueueUrl"]
        first = deployed.invoke(client, cls.address, "setup")
        assert first["key_made"] and first["policy_changed"], first
        cls.api.sign_in("admin", first["password"])
        again = deployed.invoke(client, cls.address, "setup")
        assert not again["key_made"] and "password" not in again, again

    def edge(self):
        directory = self.enterContext(deployed.temporary())
        edge = deployed.Edge(self.address, self.data, self.commands, directory).start()
        self.addCleanup(edge.kill)
        return edge

    def status(self, id):
        return self.api.get(f"/v1/recordings/{id}")["status"]

    def test_a_call_is_listed_while_it_lasts_paused_by_command_and_played_by_a_signed_url(self):
        edge = self.edge()
        self.assertEqual([edge.seen_from_outside(path) for path in ("/healthz", "/metrics", "/drain")], [200, 404, 404])
        call = edge.call(8)
        live = deployed.wait("the call to be listed", 10, lambda: self.api.get("/v1/live")["recordings"] or None)
        id = live[0]["id"]
        asked = time.time()
        status, _, body = self.api.ask("POST", f"/v1/recordings/{id}/pause", {})
        self.assertEqual(status, 200, body)
        status, _, body = self.api.ask("POST", f"/v1/recordings/{id}/resume", {})
        self.assertEqual(status, 200, body)
        self.assertEqual(call.wait(30), 0)
        deployed.wait("the call to be stored", 40, lambda: self.status(id) == "stored")

        recording = self.api.get(f"/v1/recordings/{id}")
        pause = next(m for m in recording["marks"] if m["kind"] == "pause")
        self.assertLess(pause["from_ms"], pause["to_ms"])
        started = datetime.datetime.fromisoformat(recording["started_at"]).timestamp()
        took = started + pause["from_ms"] / 1000 - asked
        print(f"paused {took:.2f} s after it was asked for", file=sys.stderr)
        self.assertLess(took, 1)
        self.assertEqual(len(recording["tracks"]), 2)
        status, headers, _ = self.api.ask("GET", f"/v1/recordings/{id}/audio")
        self.assertEqual(status, 307)
        location = headers.get("Location") or headers.get("location")
        with urllib.request.urlopen(location, timeout=30) as answer:
            audio = answer.read()
        self.assertEqual(audio[:4], b"\x1a\x45\xdf\xa3", "EBML")
        found = subprocess.run(
            ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format", "-"], input=audio, capture_output=True
        )
        probed = json.loads(found.stdout)
        self.assertEqual([(s["codec_name"], s["channels"]) for s in probed["streams"]], [("opus", 2)])
        self.assertLess(abs(float(probed["format"]["duration"]) * 1000 - recording["duration_ms"]), 100)
        # Drained, it goes by itself, and nothing is left on its disk that is not in the store.
        self.assertEqual(edge.drain(), 0)

    def test_the_synthetic_call_tells_that_a_call_was_recorded_and_that_one_was_not(self):
        edge = self.edge()
        # As an operator makes it, who may hear nothing.
        password = deployed.invoke(client, self.address, "setup", {"reset_password": True})["password"]
        self.api.sign_in("admin", password)
        with tempfile.TemporaryDirectory() as directory:
            told = Path(directory) / "told"
            stand_in(directory, "aws", told)
            environment = {
                **os.environ,
                "PATH": f"{directory}:{deployed.BINARIES}:{os.environ['PATH']}",
                "PROBE_TARGET": edge.ready["sip"],
                "PROBE_API": f"{self.address}/_aws/execute-api/{self.app['HttpApiId']}/$default",
                "PROBE_LOGIN": "admin",
                "PROBE_PASSWORD": password,
                "PROBE_EDGE": "b",
                "PROBE_SECONDS": "3",
            }
            probe = lambda **other: subprocess.run(
                [DIST / "linekeeper-probe"], env={**environment, **other}, capture_output=True, text=True, timeout=200
            )
            done = probe()
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("MetricName=ProbeSuccess,Unit=Count,Value=1,Dimensions=[{Name=Edge,Value=b}]", told.read_text())
            told.write_text("")
            for wrong in ({"PROBE_PASSWORD": "wrong"}, {"PROBE_TARGET": "127.0.0.1:1"}, {"PROBE_SECONDS": "3", "PROBE_LIMIT_SECS": "0"}):
                failed = probe(**wrong)
                self.assertEqual(failed.returncode, 1, (wrong, failed.stderr))
                self.assertNotIn(password, failed.stderr)
                self.assertIn("Value=0", told.read_text())
                told.write_text("")

    def test_a_killed_edge_has_its_calls_closed_and_playable_within_a_minute(self):
        edge = self.edge()
        call = edge.call(50)
        live = lambda: next((r for r in self.api.get("/v1/live")["recordings"] if r["status"] == "recording"), None)
        id = deployed.wait("the call to be listed", 10, live)["id"]
        time.sleep(8)
        edge.kill()
        killed = time.monotonic()
        deployed.wait("the call to be closed", 70, lambda: self.status(id) == "partial")
        peaks = lambda: self.api.ask("GET", f"/v1/recordings/{id}/audio")[0] == 307
        deployed.wait("the call to be playable", 70 - (time.monotonic() - killed), peaks)
        took = time.monotonic() - killed
        print(f"a killed edge's call was playable after {took:.0f} s", file=sys.stderr)
        self.assertLess(took, 60)
        # Back with its disk while the client still sends, it goes on with the call to its end.
        edge.start()
        self.assertEqual(call.wait(60), 0)
        deployed.wait("the call to be whole", 40, lambda: self.status(id) == "stored")
        recording = self.api.get(f"/v1/recordings/{id}")
        self.assertIn("interrupted", recording["flags"])
        self.assertGreater(recording["duration_ms"], 49_000)

    def test_events_shuffled_and_repeated_give_the_table_that_they_mean(self):
        told = deployed_events.of_calls(200)
        bodies = [json.dumps(event) for call in told for event in call["events"]]
        self.assertEqual(len(bodies), 1000)
        order = random.Random(7)
        sent = bodies + order.sample(bodies, 300)
        order.shuffle(sent)
        for start in range(0, len(sent), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(sent[start : start + 10])]
            answer = self.sqs.send_message_batch(QueueUrl=self.data["EventQueueUrl"], Entries=entries)
            self.assertFalse(answer.get("Failed"))

        window = f"&from={told[0]['from']}&to={told[-1]['to']}"
        expected = {call["id"]: call["shown"] for call in told}
        shown = lambda: {r["id"]: deployed_events.shown(r) for r in self.api.recordings(window)}
        deployed.wait("the table to be right", 120, lambda: shown() == expected or None)
        # And it stays so when the last repeated ones have come.
        deployed.wait("the queue to be empty", 60, lambda: self.depth(self.data["EventQueueUrl"]) == 0)
        self.assertEqual(shown(), expected)

    def test_a_message_that_is_no_event_is_put_aside_alone(self):
        before = self.depth(self.data["EventDeadLettersUrl"])
        told = deployed_events.of_calls(1, day=9)[0]
        bodies = ["{ no event", json.dumps({"version": 99}), *[json.dumps(event) for event in told["events"]]]
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
        self.sqs.send_message_batch(QueueUrl=self.data["EventQueueUrl"], Entries=entries)
        window = f"&from={told['from']}&to={told['to']}"
        listed = lambda: [deployed_events.shown(r) for r in self.api.recordings(window)] == [told["shown"]]
        deployed.wait("the call beside it", 30, listed)
        deployed.wait("two dead letters", 30, lambda: self.depth(self.data["EventDeadLettersUrl"]) == before + 2)
        reasons = self.sqs.receive_message(
            QueueUrl=self.data["EventDeadLettersUrl"], MaxNumberOfMessages=10, MessageAttributeNames=["reason"]
        )["Messages"]
        texts = " ".join(m["MessageAttributes"]["reason"]["StringValue"] for m in reasons)
        self.assertIn("not a recording event", texts)
        self.assertIn("version 99", texts)

    def depth(self, url):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(count) for count in counts.values())


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    # As cargo's tests end, so that `cargo xtask test` counts these with them.
    print(f"test result: {'FAILED' if failed else 'ok'}. {result.testsRun - failed} passed; {failed} failed; 0 ignored")
    sys.exit(1 if failed else 0)
