//! `cargo xtask deploy`: the stacks of `infra/` into an account, in their order, by the AWS CLI.
//!
//! A file says what is deployed (`infra/deploy.example.toml`); kept under version control, it is the
//! whole difference between two deployments. What one stack gives and another takes is passed on
//! here by name: an output `TableName` becomes the parameter `TableName`. Deploying again changes
//! what changed, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::run::{exists, output, run};

/// CloudFront takes a firewall from this region only.
const GLOBAL_REGION: &str = "us-east-1";

type Parameters = BTreeMap<String, String>;

/// One stack, as the file wants it.
#[derive(Debug)]
struct Stack {
    name: String,
    template: &'static str,
    region: String,
    /// What the file sets; goes before what other stacks gave.
    set: Parameters,
    /// The edge it belongs to: what that edge's stack gives is for this edge alone.
    edge: Option<String>,
}

/// What `deploy.toml` says.
struct Plan {
    region: String,
    common: Parameters,
    release: String,
    stacks: Vec<Stack>,
}

pub fn deploy(root: &Path, file: &Path, bundles: Option<&Path>, dry_run: bool) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let plan = Plan::parse(root, &text).with_context(|| file.display().to_string())?;
    if dry_run {
        for stack in &plan.stacks {
            println!("{} in {} from infra/{}", stack.name, stack.region, stack.template);
        }
        return Ok(());
    }
    if !exists("aws") {
        bail!("the AWS CLI is missing: install it and sign in, then run again");
    }
    let mut given = Parameters::new();
    let mut of_edges: BTreeMap<&str, Parameters> = BTreeMap::new();
    for stack in &plan.stacks {
        if stack.template == "app.yaml"
            && let Some(bundles) = bundles
        {
            upload(&plan, bundles, &given)?;
        }
        let own = stack.edge.as_deref().and_then(|edge| of_edges.get(edge));
        let parameters = plan.parameters(root, stack, &given, own)?;
        create_or_update(root, stack, &parameters)?;
        let outputs = outputs(stack)?;
        match stack.edge.as_deref() {
            Some(edge) => of_edges.entry(edge).or_default().extend(outputs),
            None => given.extend(outputs),
        }
    }
    if let Some(url) = given.get("SiteUrl") {
        println!("deployed: {url}");
    }
    Ok(())
}

impl Plan {
    fn parse(root: &Path, text: &str) -> Result<Self> {
        let file: Table = toml::from_str(text)?;
        for key in file.keys() {
            let known = [
                "deployment",
                "tenant",
                "region",
                "release",
                "network",
                "global",
                "data",
                "app",
                "edges",
            ];
            if !known.contains(&key.as_str()) {
                bail!("{key} is not known");
            }
        }
        let word = |key: &str| {
            let value = file.get(key).and_then(Value::as_str);
            value.map(str::to_owned).with_context(|| format!("{key} is missing"))
        };
        let (region, release) = (word("region")?, word("release")?);
        let deployment = word("deployment").unwrap_or_else(|_| "linekeeper".into());
        let tenant = word("tenant").unwrap_or_else(|_| "default".into());
        let common = Parameters::from([
            ("Deployment".into(), deployment.clone()),
            ("Tenant".into(), tenant),
            ("Release".into(), release.clone()),
        ]);
        let stack = |part: &str, template, set, edge: Option<&str>| Stack {
            name: format!("{deployment}-{part}"),
            template,
            region: if template == "global.yaml" { GLOBAL_REGION.into() } else { region.clone() },
            set,
            edge: edge.map(str::to_owned),
        };
        let mut stacks = Vec::new();
        // Only who asks for them gets a network and a firewall of ours.
        for (part, template) in [("network", "network.yaml"), ("global", "global.yaml")] {
            if let Some(set) = file.get(part) {
                stacks.push(stack(part, template, parameters_of(part, set)?, None));
            }
        }
        for (part, template) in [("data", "data.yaml"), ("app", "app.yaml")] {
            let set = file.get(part).map_or(Ok(Parameters::new()), |set| parameters_of(part, set));
            stacks.push(stack(part, template, set?, None));
        }
        stacks.push(stack("app-watch", "app-watch.yaml", Parameters::new(), None));
        let none = Table::new();
        let edges = match file.get("edges") {
            Some(edges) => edges.as_table().context("edges is not a table")?,
            None => &none,
        };
        for (name, set) in edges {
            let mut set = parameters_of(name, set)?;
            let mut watch = take(&mut set, &parameters_in(root, "edge-watch.yaml")?);
            for of_edge in [&mut set, &mut watch] {
                of_edge.insert("EdgeName".into(), name.clone());
            }
            let part = format!("edge-{name}");
            stacks.push(stack(&part, "edge.yaml", set, Some(name)));
            stacks.push(stack(&format!("{part}-watch"), "edge-watch.yaml", watch, Some(name)));
        }
        let plan = Self { region, common, release, stacks };
        plan.refuse_unknown(root)?;
        Ok(plan)
    }

    fn refuse_unknown(&self, root: &Path) -> Result<()> {
        for stack in &self.stacks {
            let known = parameters_in(root, stack.template)?;
            // `Place` stands for VpcId, SubnetId, AvailabilityZone and Reach.
            if let Some(key) = stack.set.keys().find(|key| !known.contains(*key) && *key != "Place")
            {
                bail!("{}: {} has no parameter {key}", stack.name, stack.template);
            }
        }
        Ok(())
    }

    /// What the stack's template takes, of what the file sets and other stacks gave.
    fn parameters(
        &self,
        root: &Path,
        stack: &Stack,
        given: &Parameters,
        own: Option<&Parameters>,
    ) -> Result<Parameters> {
        let known = parameters_in(root, stack.template)?;
        let mut all = self.common.clone();
        all.extend(given.clone());
        all.extend(own.cloned().unwrap_or_default());
        if let Some(place) = stack.set.get("Place") {
            all.extend(place_in(given, place)?);
        }
        all.extend(stack.set.clone());
        all.retain(|key, _| known.contains(key));
        Ok(all)
    }
}

/// `public-a` … `private-b` of the network stack.
fn place_in(given: &Parameters, place: &str) -> Result<Parameters> {
    let (reach, zone) = match place {
        "public-a" => ("Public", "A"),
        "public-b" => ("Public", "B"),
        "private-a" => ("Private", "A"),
        "private-b" => ("Private", "B"),
        _ => bail!("Place is {place}, not public-a, public-b, private-a or private-b"),
    };
    let of = |output: String| {
        let value = given.get(&output).cloned();
        value.with_context(|| format!("Place needs a [network] in the file, for {output}"))
    };
    Ok(Parameters::from([
        ("VpcId".into(), of("VpcId".into())?),
        ("SubnetId".into(), of(format!("{reach}Subnet{zone}"))?),
        ("AvailabilityZone".into(), of(format!("AvailabilityZone{zone}"))?),
        ("Reach".into(), reach.to_lowercase()),
    ]))
}

/// Removes and gives the entries with these keys.
fn take(from: &mut Parameters, keys: &BTreeSet<String>) -> Parameters {
    let (taken, left) = std::mem::take(from).into_iter().partition(|(key, _)| keys.contains(key));
    *from = left;
    taken
}

fn parameters_of(part: &str, set: &Value) -> Result<Parameters> {
    let set = set.as_table().with_context(|| format!("{part} is not a table"))?;
    set.iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key.clone(), text.clone())),
            Value::Integer(number) => Ok((key.clone(), number.to_string())),
            Value::Boolean(yes) => Ok((key.clone(), if *yes { "yes" } else { "no" }.into())),
            _ => bail!("{part}.{key} is neither text nor number"),
        })
        .collect()
}

/// The names under `Parameters:` of a template: two spaces, a name, a colon.
fn parameters_in(root: &Path, template: &str) -> Result<BTreeSet<String>> {
    let path = root.join("infra").join(template);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let names = text
        .lines()
        .skip_while(|line| *line != "Parameters:")
        .skip(1)
        .take_while(|line| !line.starts_with(|c: char| c.is_ascii_alphabetic()))
        .filter_map(|line| line.strip_prefix("  ")?.split_once(':').map(|(name, _)| name))
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric()));
    Ok(names.map(str::to_owned).collect())
}

fn aws(region: &str) -> Command {
    let mut command = Command::new("aws");
    command.args(["--region", region]);
    command
}

/// `deploy` waits, and ends well when nothing changed.
fn create_or_update(root: &Path, stack: &Stack, parameters: &Parameters) -> Result<()> {
    let mut command = aws(&stack.region);
    command
        .args(["cloudformation", "deploy", "--no-fail-on-empty-changeset"])
        .args(["--capabilities", "CAPABILITY_NAMED_IAM"])
        .args(["--stack-name", &stack.name, "--template-file"])
        .arg(root.join("infra").join(stack.template));
    if !parameters.is_empty() {
        command.arg("--parameter-overrides");
        command.args(parameters.iter().map(|(key, value)| format!("{key}={value}")));
    }
    run(&mut command)
}

fn outputs(stack: &Stack) -> Result<Parameters> {
    let described = output(aws(&stack.region).args([
        "cloudformation",
        "describe-stacks",
        "--output",
        "json",
        "--stack-name",
        &stack.name,
    ]))?;
    let described: serde_json::Value =
        serde_json::from_str(&described).context(stack.name.clone())?;
    let outputs = described["Stacks"][0]["Outputs"].as_array();
    let pairs = outputs.into_iter().flatten().filter_map(|one| {
        Some((one["OutputKey"].as_str()?.to_owned(), one["OutputValue"].as_str()?.to_owned()))
    });
    Ok(pairs.collect())
}

/// A release lies under its own prefix and is never changed: going back is naming the one before.
fn upload(plan: &Plan, bundles: &Path, given: &Parameters) -> Result<()> {
    let bucket = given.get("ArtifactBucketName").context("the data stack names no bucket")?;
    let to = format!("s3://{bucket}/{}/", plan.release);
    run(aws(&plan.region).args(["s3", "sync", "--only-show-errors"]).arg(bundles).arg(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::root;

    const FILE: &str = "region = \"eu-west-1\"\nrelease = \"r1\"\n[network]\n[edges.a]\n\
                        Place = \"public-a\"\nSbcCidr1 = \"192.0.2.0/24\"\nCallsAlarmAt = 400\n";

    #[test]
    fn the_example_can_be_deployed() {
        let text = fs::read_to_string(root().join("infra/deploy.example.toml")).unwrap();
        let plan = Plan::parse(&root(), &text).unwrap();
        assert!(plan.stacks.iter().any(|stack| stack.template == "edge.yaml"));
    }

    #[test]
    fn an_edge_gets_what_the_file_says_and_what_other_stacks_gave() {
        let plan = Plan::parse(&root(), FILE).unwrap();
        let names: Vec<&str> = plan.stacks.iter().map(|stack| stack.name.as_str()).collect();
        let wanted = ["network", "data", "app", "app-watch", "edge-a", "edge-a-watch"];
        assert_eq!(names, wanted.map(|name| format!("linekeeper-{name}")));
        let given = [
            ("VpcId", "vpc-1"),
            ("PublicSubnetA", "subnet-1"),
            ("AvailabilityZoneA", "eu-west-1a"),
            ("EventQueueUrl", "https://q"),
            ("TableName", "linekeeper-index"),
        ];
        let given: Parameters =
            given.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let edge = plan.parameters(&root(), &plan.stacks[4], &given, None).unwrap();
        for (key, value) in [
            ("EdgeName", "a"),
            ("VpcId", "vpc-1"),
            ("SubnetId", "subnet-1"),
            ("Reach", "public"),
            ("AvailabilityZone", "eu-west-1a"),
            ("EventQueueUrl", "https://q"),
            ("Release", "r1"),
        ] {
            assert_eq!(edge.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert!(!edge.contains_key("TableName"), "an edge has no business with the table");
        let own = Parameters::from([("CommandQueueUrl".into(), "https://commands".into())]);
        let watch = plan.parameters(&root(), &plan.stacks[5], &given, Some(&own)).unwrap();
        assert_eq!(watch["CommandQueueUrl"], "https://commands");
        assert_eq!((watch["EdgeName"].as_str(), watch["CallsAlarmAt"].as_str()), ("a", "400"));
    }

    #[test]
    fn a_misspelt_parameter_is_an_error() {
        let file = FILE.replace("SbcCidr1", "SbcCidr");
        let error = Plan::parse(&root(), &file).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("SbcCidr"), "{error}");
        let error = Plan::parse(&root(), "regoin = \"x\"").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("regoin"), "{error}");
    }

    #[test]
    fn a_place_needs_the_network_that_has_it() {
        let error = place_in(&Parameters::new(), "public-a").unwrap_err().to_string();
        assert!(error.contains("[network]"), "{error}");
        assert!(place_in(&Parameters::new(), "publik-a").is_err());
    }
}
