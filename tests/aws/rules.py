"""What the templates in infra/ must be, beyond what cfn-lint knows.

Each rule takes all templates, {file name: template}, and gives back what breaks it. An exception
needs its reason in the template: under Metadata/Linekeeper of the resource, or, for a `*` in a
policy, in the comment above the statement's Sid. `check_templates.py` runs them.
"""

import pathlib
import re

import cfnlint.decode.cfn_yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"


def load():
    return {path.name: cfnlint.decode.cfn_yaml.load(str(path)) for path in sorted(INFRA.glob("*.yaml"))}


def resources(templates, *types):
    """(where, logical id, resource) of each resource of the types, or of all."""
    for file, template in templates.items():
        for name, resource in template["Resources"].items():
            if not types or resource["Type"] in types:
                yield f"{file} {name}", name, resource


def excused(resource, why):
    return len(str(resource.get("Metadata", {}).get("Linekeeper", {}).get(why, ""))) > 10


def listed(value):
    return value if isinstance(value, list) else [value]


def statements(document):
    """Of a policy document, with the branches of each Fn::If."""
    for statement in listed(document["Statement"]):
        branches = statement["Fn::If"][1:] if "Fn::If" in statement else [statement]
        yield from (branch for branch in branches if "Effect" in branch)


def granted(role):
    for policy in role["Properties"].get("Policies", []):
        yield from statements(policy["PolicyDocument"])


def text_of(value):
    """The text of a string or of a Fn::Sub, Ref or GetAtt: enough to see what it names."""
    return str(value)


def tls_only(resource):
    return any(
        s["Effect"] == "Deny"
        and s.get("Principal") == "*"
        and s.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport") == "false"
        for s in statements(resource["Properties"]["PolicyDocument"])
    )


def buckets_are_closed(templates):
    policies = {
        p["Properties"]["Bucket"]["Ref"]: p for _, _, p in resources(templates, "AWS::S3::BucketPolicy")
    }
    for where, name, bucket in resources(templates, "AWS::S3::Bucket"):
        properties = bucket["Properties"]
        block = properties.get("PublicAccessBlockConfiguration", {})
        for switch in ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"):
            if block.get(switch) is not True:
                yield f"{where}: {switch} is not on"
        if properties.get("VersioningConfiguration", {}).get("Status") != "Enabled":
            yield f"{where}: no versions"
        if name not in policies or not tls_only(policies[name]):
            yield f"{where}: answers without TLS"
        rules = properties.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", [{}])
        default = rules[0].get("ServerSideEncryptionByDefault", {})
        if default.get("SSEAlgorithm") != "aws:kms" and not excused(bucket, "NotKms"):
            yield f"{where}: not under a KMS key, and no reason"
        if default.get("SSEAlgorithm") == "aws:kms" and rules[0].get("BucketKeyEnabled") is not True:
            yield f"{where}: no bucket key; every object would cost a request to KMS"
        if properties.get("ObjectLockEnabled") is not True and not excused(bucket, "NotLocked"):
            yield f"{where}: no Object Lock, and no reason"
        if "ObjectLockConfiguration" in properties:
            yield f"{where}: a default retention would lock segments"


def queues_keep_what_fails(templates):
    dead, guarded = set(), set()
    for _, _, queue in resources(templates, "AWS::SQS::Queue"):
        target = queue["Properties"].get("RedrivePolicy", {}).get("deadLetterTargetArn", {}).get("Fn::GetAtt")
        if target:
            dead.add(target[0] if isinstance(target, list) else target.split(".")[0])
    for _, _, policy in resources(templates, "AWS::SQS::QueuePolicy"):
        if tls_only(policy):
            guarded.update(str(q.get("Ref")) for q in policy["Properties"]["Queues"])
    for where, name, queue in resources(templates, "AWS::SQS::Queue"):
        properties = queue["Properties"]
        if properties.get("SqsManagedSseEnabled") is not True and "KmsMasterKeyId" not in properties:
            yield f"{where}: not encrypted"
        # A queue of another stack is passed on as the parameter NameUrl.
        if name not in guarded and f"{name}Url" not in guarded:
            yield f"{where}: answers without TLS"
        redrive = properties.get("RedrivePolicy")
        if name not in dead and redrive is None and not excused(queue, "NoDeadLetters"):
            yield f"{where}: no dead letters, and no reason"
        if redrive and redrive["maxReceiveCount"] < 1000:
            yield f"{where}: an outage of the table would drain it into the dead letters"
        if (name in dead or redrive) and properties.get("MessageRetentionPeriod") != 1209600:
            yield f"{where}: does not keep messages for 14 days"


def queues_outwait_their_function(templates):
    app, data = templates["app.yaml"]["Resources"], templates["data.yaml"]["Resources"]
    for where, _, source in resources(templates, "AWS::Lambda::EventSourceMapping"):
        properties = source["Properties"]
        timeout = app[properties["FunctionName"]["Ref"]]["Properties"]["Timeout"]
        queue = data[properties["EventSourceArn"]["Ref"].removesuffix("Arn")]["Properties"]
        if queue["VisibilityTimeout"] < 6 * timeout:
            yield f"{where}: its queue hides a message for less than six timeouts"
        if "ReportBatchItemFailures" not in properties.get("FunctionResponseTypes", []):
            yield f"{where}: one bad message would fail its batch"


def tables_can_be_restored(templates):
    for where, _, table in resources(templates, "AWS::DynamoDB::GlobalTable"):
        properties = table["Properties"]
        if properties.get("SSESpecification", {}).get("SSEType") != "KMS":
            yield f"{where}: not under a KMS key"
        if properties.get("TimeToLiveSpecification", {}).get("AttributeName") != "expires":
            yield f"{where}: time to live is for what is ephemeral alone, by `expires`"
        for replica in properties["Replicas"]:
            for one in replica.get("Fn::If", [None, replica])[1:]:
                if "Region" not in one:
                    continue
                if one.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled") is not True:
                    yield f"{where}: no point-in-time recovery"
                if one.get("DeletionProtectionEnabled") is not True:
                    yield f"{where}: can be deleted"
    for where, name, _ in resources(templates, "AWS::DynamoDB::Table"):
        yield f"{where}: a plain table cannot get a second region"


def what_holds_recordings_outlives_its_stack(templates):
    kept = ("AWS::KMS::Key", "AWS::DynamoDB::GlobalTable", "AWS::EC2::Volume")
    for where, name, resource in resources(templates):
        if resource["Type"] in kept or name == "MediaBucket":
            for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
                if resource.get(policy) != "Retain":
                    yield f"{where}: {policy} is not Retain"
    for where, _, key in resources(templates, "AWS::KMS::Key"):
        if key["Properties"].get("EnableKeyRotation") is not True:
            yield f"{where}: is not rotated"


def machines_are_closed(templates):
    for where, _, template in resources(templates, "AWS::EC2::LaunchTemplate"):
        data = template["Properties"]["LaunchTemplateData"]
        if data.get("MetadataOptions", {}).get("HttpTokens") != "required":
            yield f"{where}: IMDSv1 answers"
        if data.get("MetadataOptions", {}).get("HttpPutResponseHopLimit") != 1:
            yield f"{where}: a container reaches the instance's role"
        for device in data["BlockDeviceMappings"]:
            if device["Ebs"].get("Encrypted") is not True:
                yield f"{where}: a disk is not encrypted"
    for where, _, volume in resources(templates, "AWS::EC2::Volume"):
        if volume["Properties"].get("Encrypted") is not True:
            yield f"{where}: not encrypted"
    for where, _, group in resources(templates, "AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress"):
        properties = group["Properties"]
        for rule in properties.get("SecurityGroupIngress", [properties] if "IpProtocol" in properties else []):
            if rule.get("CidrIp") in ("0.0.0.0/0",) or "CidrIpv6" in rule:
                yield f"{where}: open to everybody"


def what_an_edge_attaches_bears_its_tag(templates):
    """The role may attach what bears the edge's tag: machine, disk and address must bear it."""
    edge = templates["edge.yaml"]["Resources"]
    policy = edge["InstanceRole"]["Properties"]["Policies"][0]["PolicyDocument"]
    attach = next(s for s in statements(policy) if s.get("Sid") == "AttachOwn")
    wanted = attach["Condition"]["StringEquals"].get("aws:ResourceTag/linekeeper-edge")
    for name in ("Group", "ElasticIp", "Journal"):
        tags = edge[name]["Properties"]["Tags"]
        own = [tag for tag in tags if tag["Key"] == "linekeeper-edge" and tag["Value"] == wanted]
        if wanted is None or not own or (name == "Group" and own[0].get("PropagateAtLaunch") is not True):
            yield f"edge.yaml {name}: the edge may not attach it"


def roles_name_what_they_may(templates):
    for where, _, role in resources(templates, "AWS::IAM::Role"):
        text = (INFRA / where.split()[0]).read_text().splitlines()
        for statement in granted(role):
            sid = statement.get("Sid", "?")
            for action in listed(statement["Action"]):
                if "*" in action:
                    yield f"{where} {sid}: {action}"
            if "*" in listed(statement["Resource"]):
                at = next((i for i, line in enumerate(text) if line.strip() == f"- Sid: {sid}"), 0)
                if "`*` because" not in " ".join(text[max(at - 3, 0) : at]):
                    yield f"{where} {sid}: every resource, and no reason"


def edges_cannot_read_or_delete_media(templates):
    for where, _, role in resources(templates, "AWS::IAM::Role"):
        if not where.startswith("edge.yaml"):
            continue
        for statement in granted(role):
            named = text_of(statement["Resource"])
            for action in listed(statement["Action"]):
                reads = action.startswith("s3:Get") and "MediaBucket" in named and "/policy/*" not in named
                if reads or action.startswith("s3:Delete") or action.startswith("s3:List"):
                    yield f"{where}: {action} on {named}"
                if action == "kms:Decrypt" and "MediaKey" in named:
                    yield f"{where}: opens media"
                if action == "s3:PutObject" and "Null" not in statement.get("Condition", {}):
                    yield f"{where}: may replace a segment"


def every_function_has_its_own_role_and_log(templates):
    roles = []
    for where, name, function in resources(templates, "AWS::Lambda::Function"):
        properties = function["Properties"]
        roles.append(text_of(properties["Role"]))
        if properties.get("LoggingConfig", {}).get("LogGroup") != {"Ref": f"{name}Log"}:
            yield f"{where}: logs elsewhere"
    for role in {role for role in roles if roles.count(role) > 1}:
        yield f"shared by functions: {role}"
    for where, _, group in resources(templates, "AWS::Logs::LogGroup"):
        for needed in ("RetentionInDays", "KmsKeyId"):
            if needed not in group["Properties"]:
                yield f"{where}: no {needed}"


def every_alarm_has_a_runbook(templates):
    for where, _, alarm in resources(templates, "AWS::CloudWatch::Alarm"):
        properties = alarm["Properties"]
        book = re.search(r"docs/guide/runbooks/[a-z0-9-]+\.md", properties["AlarmDescription"])
        if not book or not (ROOT / book.group()).is_file():
            yield f"{where}: no runbook"
        if not properties.get("AlarmActions"):
            yield f"{where}: tells nobody"
        if "TreatMissingData" not in properties:
            yield f"{where}: does not say what silence means"


def edges_measure_what_is_alarmed(templates):
    """Each metric of an edge's alarm is sent by the edge, from metrics that the recorder has."""
    template = templates["edge.yaml"]["Resources"]["Template"]["Properties"]["LaunchTemplateData"]
    script = template["UserData"]["Fn::Base64"]["Fn::Sub"][0]
    sent = set(re.findall(r"MetricName=(\w+)", script)) | {"ProbeSuccess"}
    for where, _, alarm in resources(templates, "AWS::CloudWatch::Alarm"):
        properties = alarm["Properties"]
        if where.startswith("edge-watch.yaml") and properties["MetricName"] not in sent:
            yield f"{where}: no edge sends {properties['MetricName']}"
    source = "".join(path.read_text() for path in (ROOT / "edge-recorder/src").rglob("*.rs"))
    for metric in sorted(set(re.findall(r"linekeeper_\w+", script))):
        if metric not in source:
            yield f"edge.yaml Template: the recorder has no metric {metric}"


def the_site_runs_only_what_is_ours(templates):
    for where, _, policy in resources(templates, "AWS::CloudFront::ResponseHeadersPolicy"):
        headers = policy["Properties"]["ResponseHeadersPolicyConfig"]["SecurityHeadersConfig"]
        content = headers["ContentSecurityPolicy"]["ContentSecurityPolicy"]
        for needed in ("default-src 'self'", "script-src 'self' 'wasm-unsafe-eval'", "frame-ancestors 'none'"):
            if needed not in content:
                yield f"{where}: without {needed}"
        if "unsafe-inline" in content:
            yield f"{where}: runs scripts of a page"
    for where, _, site in resources(templates, "AWS::CloudFront::Distribution"):
        config = site["Properties"]["DistributionConfig"]
        behaviors = [config["DefaultCacheBehavior"], *config["CacheBehaviors"]]
        if any(b["ViewerProtocolPolicy"] not in ("redirect-to-https", "https-only") for b in behaviors):
            yield f"{where}: answers without TLS"
        if {b.get("PathPattern") for b in behaviors} != {None, "/v1/*", "/t/*"}:
            yield f"{where}: site, API and media are not all behind it"
    for where, _, stage in resources(templates, "AWS::ApiGatewayV2::Stage"):
        if "AccessLogSettings" not in stage["Properties"]:
            yield f"{where}: no access log"
        if "ThrottlingRateLimit" not in stage["Properties"].get("DefaultRouteSettings", {}):
            yield f"{where}: no limit of requests"


def names_are_those_of_the_code(templates):
    """Indexes, keys, projections and environment: what core/storage/aws/src/names.rs says."""
    source = (ROOT / "core/storage/aws/src/names.rs").read_text()
    names = dict(re.findall(r'pub const (\w+): &str = "([^"]+)"', source))
    for where, _, table in resources(templates, "AWS::DynamoDB::GlobalTable"):
        properties = table["Properties"]
        keys = [k["AttributeName"] for k in properties["KeySchema"]]
        if keys != [names["PK"], names["SK"]]:
            yield f"{where}: its key is {keys}"
        wanted = {
            names[f"{index}_INDEX"]: ([names[f"{index}_PK"], names[f"{index}_SK"]], projected)
            for index, projected in (("LIST", [names["STATE"]]), ("LOOKUP", None), ("WORK", [names["STATE"]]))
        }
        is_now = {
            i["IndexName"]: ([k["AttributeName"] for k in i["KeySchema"]], i["Projection"].get("NonKeyAttributes"))
            for i in properties["GlobalSecondaryIndexes"]
        }
        if is_now != wanted:
            yield f"{where}: its indexes are {is_now}"
        if properties["TimeToLiveSpecification"]["AttributeName"] != names["EXPIRES"]:
            yield f"{where}: the code writes {names['EXPIRES']}"
    script = str(templates["edge.yaml"]["Resources"]["Template"]["Properties"]["LaunchTemplateData"]["UserData"])
    set_by = {"edge.yaml": set(re.findall(r"^LINEKEEPER_\w+(?==)", script.replace("\\n", "\n"), re.M))}
    for where, _, function in resources(templates, "AWS::Lambda::Function"):
        set_by[where] = set(function["Properties"]["Environment"]["Variables"])
    # What a stack gives by these words is a thing of AWS; the code must know it by the same name.
    for where, variables in set_by.items():
        for variable in sorted(variables):
            if re.search(r"_(TABLE|BUCKET|QUEUE_URL|DLQ_URL|QUEUE_URL_PREFIX)$", variable):
                if variable not in names.values():
                    yield f"{where}: the code does not read {variable}"
    read = {v for v in names.values() if re.search(r"_(TABLE|BUCKET|QUEUE_URL|DLQ_URL|QUEUE_URL_PREFIX)$", v)}
    for variable in sorted(read - set().union(*set_by.values())):
        yield f"no stack sets {variable}"


# Calls of the SDK that ask for an action of another name.
ACTIONS_OF_CALLS = {
    "s3": {
        "head_object": ["s3:GetObject"],
        "delete_objects": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
        "list_objects_v2": ["s3:ListBucket"],
        "list_object_versions": ["s3:ListBucketVersions"],
    },
    "dynamodb": {
        "transact_write_items": ["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"],
    },
}
CALLS = re.compile(
    r"\.((?:put|get|head|list|delete|copy|update|batch|transact|send|receive|change)_(?!markers)[a-z0-9_]+|query|scan)\(\)"
)


def what_the_code_calls_is_granted(templates):
    """Each call of the SDK in core/storage/aws is allowed to somebody; none is to nobody."""
    allowed = {
        action
        for _, _, role in resources(templates, "AWS::IAM::Role")
        for statement in granted(role) if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    }
    source = ROOT / "core/storage/aws/src"
    for service, paths in (("s3", [source / "s3.rs"]), ("sqs", [source / "sqs.rs"]), ("dynamodb", source.glob("dynamodb/*.rs"))):
        called = set()
        for path in paths:
            # Without its tests; the schema is made by the template, and by tests.
            if path.name != "schema.rs":
                called.update(CALLS.findall(path.read_text().split("#[cfg(test)]")[0]))
        if not called:
            yield f"no call of {service} was found"
        for call in sorted(called):
            own = call.removesuffix("_batch") if service == "sqs" else call
            usual = f"{service}:" + "".join(part.capitalize() for part in own.split("_"))
            for action in ACTIONS_OF_CALLS.get(service, {}).get(call, [usual]):
                if action not in allowed:
                    yield f"{service} {call}: nobody may {action}"


RULES = [
    buckets_are_closed,
    queues_keep_what_fails,
    queues_outwait_their_function,
    tables_can_be_restored,
    what_holds_recordings_outlives_its_stack,
    machines_are_closed,
    what_an_edge_attaches_bears_its_tag,
    roles_name_what_they_may,
    edges_cannot_read_or_delete_media,
    every_function_has_its_own_role_and_log,
    every_alarm_has_a_runbook,
    edges_measure_what_is_alarmed,
    the_site_runs_only_what_is_ours,
    names_are_those_of_the_code,
    what_the_code_calls_is_granted,
]
