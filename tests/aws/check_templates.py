"""The templates in infra/ against cfn-lint and rules.py, and each rule against a template that breaks it.

`cargo xtask check` runs it; alone: TOOLS/bin/python tests/aws/check_templates.py
"""

import copy
import subprocess
import sys
import unittest
from pathlib import Path

import rules

sys.path.append(str(rules.INFRA / "cost"))
import cost

TEMPLATES = rules.load()


def properties(templates, file, name):
    return templates[file]["Resources"][name]["Properties"]


def edge_statement(templates, sid):
    policy = properties(templates, "edge.yaml", "InstanceRole")["Policies"][0]["PolicyDocument"]
    return next(s for s in policy["Statement"] if s.get("Sid") == sid)


def launch_data(templates):
    return properties(templates, "edge.yaml", "Template")["LaunchTemplateData"]


def first_metadata(templates, file, name):
    return templates[file]["Resources"][name]["Metadata"]["Linekeeper"]


def revoke(templates, action):
    """Takes the action from every role."""
    for _, _, role in rules.resources(templates, "AWS::IAM::Role"):
        for statement in rules.granted(role):
            statement["Action"] = [one for one in rules.listed(statement["Action"]) if one != action]


# For each rule, the ways to break it. Each alone must be told.
BREAKS = {
    rules.buckets_are_closed: [
        lambda t: properties(t, "data.yaml", "MediaBucket")["PublicAccessBlockConfiguration"].pop("BlockPublicAcls"),
        lambda t: properties(t, "data.yaml", "MediaBucket").pop("BucketEncryption"),
        lambda t: properties(t, "data.yaml", "MediaBucket").pop("ObjectLockEnabled"),
        lambda t: properties(t, "data.yaml", "MediaBucket").pop("VersioningConfiguration"),
        lambda t: t["data.yaml"]["Resources"].pop("MediaBucketPolicy"),
        lambda t: first_metadata(t, "data.yaml", "LogBucket").pop("NotKms"),
    ],
    rules.queues_keep_what_fails: [
        lambda t: properties(t, "data.yaml", "EventQueue").pop("RedrivePolicy"),
        lambda t: properties(t, "data.yaml", "EventQueue")["RedrivePolicy"].update(maxReceiveCount=5),
        lambda t: properties(t, "data.yaml", "EventQueue").pop("SqsManagedSseEnabled"),
        lambda t: properties(t, "data.yaml", "EventDeadLetters").update(MessageRetentionPeriod=345600),
        lambda t: t["edge-watch.yaml"]["Resources"].pop("CommandQueueTlsOnly"),
    ],
    rules.queues_outwait_their_function: [
        lambda t: properties(t, "data.yaml", "BuildQueue").update(VisibilityTimeout=900),
        lambda t: properties(t, "app.yaml", "IndexerSource").pop("FunctionResponseTypes"),
    ],
    rules.tables_can_be_restored: [
        lambda t: properties(t, "data.yaml", "Table")["Replicas"][0].pop("PointInTimeRecoverySpecification"),
        lambda t: properties(t, "data.yaml", "Table")["Replicas"][1]["Fn::If"][1].pop("DeletionProtectionEnabled"),
        lambda t: properties(t, "data.yaml", "Table").pop("SSESpecification"),
        lambda t: properties(t, "data.yaml", "Table")["TimeToLiveSpecification"].update(AttributeName="ends"),
    ],
    rules.what_holds_recordings_outlives_its_stack: [
        lambda t: t["data.yaml"]["Resources"]["TenantKey"].pop("DeletionPolicy"),
        lambda t: t["edge.yaml"]["Resources"]["Journal"].update(DeletionPolicy="Delete"),
        lambda t: properties(t, "data.yaml", "MediaKey").update(EnableKeyRotation=False),
    ],
    rules.machines_are_closed: [
        lambda t: launch_data(t)["MetadataOptions"].update(HttpTokens="optional"),
        lambda t: launch_data(t)["BlockDeviceMappings"][0]["Ebs"].pop("Encrypted"),
        lambda t: properties(t, "edge.yaml", "Journal").pop("Encrypted"),
        lambda t: properties(t, "edge.yaml", "SecurityGroup")["SecurityGroupIngress"][0].update(CidrIp="0.0.0.0/0"),
        lambda t: properties(t, "edge.yaml", "RtpIngress3").update(CidrIp="0.0.0.0/0"),
    ],
    rules.what_an_edge_attaches_bears_its_tag: [
        lambda t: properties(t, "edge.yaml", "Journal")["Tags"].pop(),
        lambda t: properties(t, "edge.yaml", "Group")["Tags"][1].update(PropagateAtLaunch=False),
        lambda t: edge_statement(t, "AttachOwn")["Condition"]["StringEquals"].popitem(),
    ],
    rules.roles_name_what_they_may: [
        lambda t: edge_statement(t, "Announce").update(Resource="*"),
        lambda t: edge_statement(t, "Announce").update(Action="sqs:*"),
    ],
    rules.edges_cannot_read_or_delete_media: [
        lambda t: edge_statement(t, "WriteSegments").update(Action=["s3:PutObject", "s3:GetObject"]),
        lambda t: edge_statement(t, "WriteSegments").update(Action=["s3:DeleteObject"]),
        lambda t: edge_statement(t, "WriteSegments").pop("Condition"),
        lambda t: edge_statement(t, "EncryptSegments").update(Action="kms:Decrypt"),
    ],
    rules.every_function_has_its_own_role_and_log: [
        lambda t: properties(t, "app.yaml", "Indexer").update(Role=properties(t, "app.yaml", "Api")["Role"]),
        lambda t: properties(t, "app.yaml", "Indexer").pop("LoggingConfig"),
        lambda t: properties(t, "app.yaml", "IndexerLog").pop("KmsKeyId"),
    ],
    rules.every_alarm_has_a_runbook: [
        lambda t: properties(t, "edge-watch.yaml", "Silent").update(AlarmDescription="docs/guide/runbooks/none.md"),
        lambda t: properties(t, "edge-watch.yaml", "Silent").pop("AlarmActions"),
        lambda t: properties(t, "edge-watch.yaml", "Silent").pop("TreatMissingData"),
    ],
    rules.edges_measure_what_is_alarmed: [
        lambda t: properties(t, "edge-watch.yaml", "Silent").update(MetricName="CallsActve"),
        lambda t: launch_data(t)["UserData"]["Fn::Base64"]["Fn::Sub"].__setitem__(0, "linekeeper_no_such_metric"),
    ],
    rules.the_site_runs_only_what_is_ours: [
        lambda t: properties(t, "app.yaml", "Site")["DistributionConfig"]["CacheBehaviors"].pop(),
        lambda t: properties(t, "app.yaml", "HttpApiStage").pop("AccessLogSettings"),
        lambda t: properties(t, "app.yaml", "SiteHeaders")["ResponseHeadersPolicyConfig"]["SecurityHeadersConfig"][
            "ContentSecurityPolicy"
        ].update(ContentSecurityPolicy="default-src 'self' 'unsafe-inline'"),
    ],
    rules.names_are_those_of_the_code: [
        lambda t: properties(t, "data.yaml", "Table")["GlobalSecondaryIndexes"].pop(),
        lambda t: properties(t, "data.yaml", "Table")["GlobalSecondaryIndexes"][0]["Projection"].pop("NonKeyAttributes"),
        lambda t: properties(t, "data.yaml", "Table")["KeySchema"][1].update(AttributeName="sort"),
        lambda t: properties(t, "app.yaml", "Indexer")["Environment"]["Variables"].update(LINEKEEPER_EVENT_QUEUE_URL="x"),
        lambda t: launch_data(t)["UserData"]["Fn::Base64"]["Fn::Sub"].__setitem__(0, "LINEKEEPER_BUCKET=x"),
    ],
    rules.what_the_code_calls_is_granted: [
        lambda t: revoke(t, "dynamodb:Query"),
        lambda t: revoke(t, "s3:PutObjectRetention"),
        lambda t: revoke(t, "sqs:ReceiveMessage"),
    ],
}


class Templates(unittest.TestCase):
    def test_cfn_lint_has_nothing_to_say(self):
        linter = Path(sys.executable).with_name("cfn-lint")
        # One process each: a process that reads them all takes longer than the sum.
        for file in sorted(rules.INFRA.glob("*.yaml")):
            with self.subTest(file.name):
                said = subprocess.run(
                    [linter, "--non-zero-exit-code", "informational", file], capture_output=True, text=True
                )
                self.assertEqual(said.returncode, 0, said.stdout + said.stderr)

    def test_every_rule_holds(self):
        for rule in rules.RULES:
            with self.subTest(rule.__name__):
                self.assertEqual(list(rule(TEMPLATES)), [])

    def test_every_rule_tells_when_it_is_broken(self):
        self.assertEqual(set(BREAKS), set(rules.RULES))
        for rule, ways in BREAKS.items():
            for number, way in enumerate(ways):
                with self.subTest(rule.__name__, way=number):
                    broken = copy.deepcopy(TEMPLATES)
                    way(broken)
                    self.assertTrue(list(rule(broken)))

    def test_every_parameter_of_a_stack_that_another_must_give_is_an_output(self):
        outputs = {
            name for file in ("data.yaml", "app.yaml", "edge.yaml", "global.yaml", "network.yaml")
            for name in TEMPLATES[file].get("Outputs", {})
        }
        # What a person or a release names, not a stack.
        given = {"Release", "EdgeName", "VpcId", "SubnetId", "AvailabilityZone", "SbcCidr1"}
        for file, template in TEMPLATES.items():
            for name, parameter in template["Parameters"].items():
                if "Default" not in parameter and name not in given:
                    self.assertIn(name, outputs, file)

    def test_the_cost_table_is_what_the_script_computes(self):
        self.assertEqual(cost.committed(), cost.table(), "run infra/cost/cost.py --write")


if __name__ == "__main__":
    unittest.main()
