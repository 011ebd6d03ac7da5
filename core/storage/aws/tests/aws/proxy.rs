//! Stands between a client and an emulator, and makes trouble as AWS and networks do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Which trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Every fifth request is refused, because there are too many.
    Throttle,
    /// Every fifth request is carried out, and its answer is lost.
    LoseAnswer,
    /// Only half of each batch is carried out.
    HalfOfBatches,
}

const EVERY: usize = 5;

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicUsize,
    troubles: AtomicUsize,
}

pub struct Proxy {
    port: u16,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// In front of what listens at `upstream`.
    pub async fn start(upstream: u16, plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let counts = shared.clone();
                // A connection that breaks is the client's to open again.
                tokio::spawn(async move { _ = serve(client, upstream, plan, &counts).await });
            }
        });
        Self { port, counts, task }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How often it has made trouble.
    pub fn troubles(&self) -> usize {
        self.counts.troubles.load(Ordering::Relaxed)
    }
}

/// A request or an answer.
struct Parcel {
    head: String,
    body: Vec<u8>,
}

impl Parcel {
    async fn read(stream: &mut TcpStream) -> std::io::Result<Option<Self>> {
        Self::read_all(stream, true).await
    }

    /// `None` at the end of the connection.
    async fn read_all(stream: &mut TcpStream, has_body: bool) -> std::io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
        };
        let mut parcel = Self {
            head: String::from_utf8_lossy(&bytes[..head_end]).into_owned(),
            body: bytes.split_off(head_end),
        };
        let length = parcel.header("content-length").filter(|_| has_body);
        let length = length.map_or(0, |length| length.parse().expect("a number"));
        while parcel.body.len() < length {
            if stream.read_buf(&mut parcel.body).await? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(parcel))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    async fn write(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(self.head.as_bytes()).await?;
        stream.write_all(&self.body).await
    }

    fn set_body(&mut self, body: &Value) {
        self.body = body.to_string().into_bytes();
        let lines = self.head.trim_end().lines().filter(|line| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            name != "content-length" && name != "x-amz-crc32"
        });
        let lines: Vec<&str> = lines.collect();
        let length = self.body.len();
        self.head = format!("{}\r\ncontent-length: {length}\r\n\r\n", lines.join("\r\n"));
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("bodies of DynamoDB and SQS are JSON")
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: u16,
    plan: Plan,
    counts: &Counts,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", upstream)).await?;
    while let Some(mut request) = Parcel::read(&mut client).await? {
        let number = counts.requests.fetch_add(1, Ordering::Relaxed);
        let is_fifth = number % EVERY == EVERY - 1;
        let cut = if plan == Plan::HalfOfBatches { cut_batch(&mut request) } else { None };
        if cut.is_some() || (is_fifth && plan != Plan::HalfOfBatches) {
            counts.troubles.fetch_add(1, Ordering::Relaxed);
        }
        if is_fifth && plan == Plan::Throttle {
            refusal(&request).write(&mut client).await?;
            continue;
        }
        request.write(&mut server).await?;
        // An answer to a HEAD tells the length of a body that it does not have.
        let has_body = !request.head.starts_with("HEAD ");
        let answer = Parcel::read_all(&mut server, has_body).await?;
        let Some(mut answer) = answer else { return Ok(()) };
        if is_fifth && plan == Plan::LoseAnswer {
            return Ok(());
        }
        if let Some((name, undone)) = cut {
            let mut body = answer.json();
            body[name] = undone;
            answer.set_body(&body);
        }
        answer.write(&mut client).await?;
    }
    Ok(())
}

fn refusal(request: &Parcel) -> Parcel {
    let (status, body) = match request.header("x-amz-target") {
        Some(target) if target.starts_with("DynamoDB") => {
            ("400 Bad Request", r#"{"__type":"x#ThrottlingException","message":"too many"}"#)
        }
        Some(_) => ("400 Bad Request", r#"{"__type":"x#RequestThrottled","message":"too many"}"#),
        None => ("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
    Parcel { head, body: body.as_bytes().to_vec() }
}

/// Takes the second half out of a batch; returns what the answer says of it, and under which name.
fn cut_batch(request: &mut Parcel) -> Option<(&'static str, Value)> {
    let operation = request.header("x-amz-target")?.rsplit_once('.')?.1.to_owned();
    if !matches!(operation.as_str(), "BatchWriteItem" | "BatchGetItem" | "SendMessageBatch") {
        return None;
    }
    let mut body = request.json();
    let batch = match operation.as_str() {
        "SendMessageBatch" => &mut body["Entries"],
        "BatchGetItem" => first_value(&mut body["RequestItems"])?.get_mut("Keys")?,
        _ => first_value(&mut body["RequestItems"])?,
    };
    let batch = batch.as_array_mut()?;
    let undone = batch.split_off(batch.len().div_ceil(2));
    if undone.is_empty() {
        return None;
    }
    let told = match operation.as_str() {
        "SendMessageBatch" => {
            let failed = undone.iter().map(
                |entry| json!({"Id": entry["Id"], "Code": "InternalError", "SenderFault": false}),
            );
            ("Failed", failed.collect())
        }
        "BatchGetItem" => {
            let mut left = body["RequestItems"].clone();
            first_value(&mut left)?["Keys"] = undone.into();
            ("UnprocessedKeys", left)
        }
        _ => {
            let mut left = body["RequestItems"].clone();
            *first_value(&mut left)? = undone.into();
            ("UnprocessedItems", left)
        }
    };
    request.set_body(&body);
    Some(told)
}

/// Of the one table that a request names.
fn first_value(tables: &mut Value) -> Option<&mut Value> {
    tables.as_object_mut()?.values_mut().next()
}
