//! Bounds what connections to the API and the site may hold.
//!
//! They share one process, and its file descriptors, with the recorder: a flood of them must not
//! leave a call without sockets. So only so many are open at once, the next ones wait in the
//! kernel's backlog, and one that does nothing gives its place up, sooner when others wait.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub places: usize,
    /// How long a connection may do nothing: between requests, within a request's header, or
    /// because the client does not read its answer.
    pub idle: Duration,
    /// The same while all places are taken.
    pub idle_when_full: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (idle, idle_when_full) = (Duration::from_secs(60), Duration::from_secs(5));
        Self { places: 512, idle, idle_when_full }
    }
}

/// A listener whose connections are bounded.
pub struct Limited<L> {
    listener: L,
    places: Arc<Semaphore>,
    limits: Limits,
}

impl<L> Limited<L> {
    pub fn new(listener: L, limits: Limits) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(limits.places)), limits }
    }
}

impl<L: Listener> Listener for Limited<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = self.places.clone().acquire_owned().await.expect("never closed");
        let (io, address) = self.listener.accept().await;
        let connection = Connection {
            io,
            answering: Answering::default(),
            active_at: Instant::now(),
            next_look: Box::pin(sleep(self.limits.idle_when_full)),
            limits: self.limits,
            places: self.places.clone(),
            _place: place,
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// How many requests of a connection are being answered: it is not idle then.
#[derive(Clone, Default)]
pub struct Answering(Arc<AtomicUsize>);

impl Answering {
    /// One more until what this returns is dropped.
    pub fn begin(&self) -> impl Drop + Send + use<> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Done(self.0.clone())
    }
}

struct Done(Arc<AtomicUsize>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Fails with a timeout when it is idle for too long.
pub struct Connection<S> {
    io: S,
    answering: Answering,
    /// What is read does not count: a header must be whole in time, however it trickles in.
    active_at: Instant,
    next_look: Pin<Box<Sleep>>,
    limits: Limits,
    places: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

impl<S> Connection<S> {
    pub fn answering(&self) -> Answering {
        self.answering.clone()
    }

    /// `Pending`, or the error when the connection was idle for too long.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.next_look.as_mut().poll(context));
            let now = Instant::now();
            if self.answering.0.load(Ordering::Relaxed) > 0 {
                self.active_at = now;
            }
            let full = self.places.available_permits() == 0;
            let limit = if full { self.limits.idle_when_full } else { self.limits.idle };
            if now.duration_since(self.active_at) >= limit {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.next_look.as_mut().reset(now + self.limits.idle_when_full);
        }
    }

    fn or_idle<T>(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match done {
            Poll::Ready(done) => {
                self.active_at = Instant::now();
                Poll::Ready(done)
            }
            Poll::Pending => self.poll_idle(context).map(Err),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_read(context, buffer) {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => this.poll_idle(context).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.or_idle(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(context, slices);
        this.or_idle(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// Nothing moves by a flush of nothing, so that one alone does not keep a connection alive.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_flush(context) {
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => this.poll_idle(context).map(Err),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_shutdown(context) {
            Poll::Ready(shut) => Poll::Ready(shut),
            Poll::Pending => this.poll_idle(context).map(Err),
        }
    }
}
