//! Traces on their way to a collector: what is to be exported, kept for a moment, and sent.
//!
//! `runtime.rs` opens it where a collector is named and runs it as a task; `answer.rs` asks it which
//! requests to trace and gives it their spans, which `otlp` writes and `post` sends.
//! Promises: no request waits for it. Spans are kept in [`KEPT_BYTES_MAX`] at most and dropped beyond,
//! as those that the collector does not take within [`POST_TIMEOUT`]; both are counted, and told when they
//! begin and when they end. A caller whom the application trusts decides about its trace. Anybody else's
//! request begins one of its own, which chance decides about, with a link to what the caller named.
//! Does not know: who asks for what.
//! Source: W3C Trace Context, security considerations (denial of service); OpenTelemetry's instrumentations of HTTP
//! servers, which do the same at a "public endpoint".

mod otlp;
mod post;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, timeout};
use uuid::Uuid;

use self::otlp::{Document, write_spans};
use self::post::Post;
pub use self::post::{Collector, NotACollector};
use crate::answered::Answered;
use crate::listen::Peer;
use crate::meters::Count;
use crate::record::Span;
use crate::trace::{Parent, SpanId, TraceId};

/// How long spans wait for others to be sent with.
const DELAY: Duration = Duration::from_secs(1);
/// So many bytes do not wait.
const BATCH_BYTES: usize = 128 * 1024;
/// All that is kept.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// From connecting to the end of the answer.
const POST_TIMEOUT: Duration = Duration::from_secs(5);
/// For what is left at the end.
const GOODBYE: Duration = Duration::from_millis(500);

/// Where traces go, and which.
#[derive(Clone)]
pub struct TraceExport {
    /// Who takes them.
    pub collector: Collector,
    /// The part of the requests that are traced though no trusted caller said so: 0 to 1.
    pub sample: f64,
    /// Whether a caller at this address, or at a unix socket, is trusted: its trace goes on here, traced or not,
    /// as it says.
    pub trusts: Rc<dyn Fn(Option<IpAddr>) -> bool>,
    /// What the service is called.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
}

impl fmt::Debug for TraceExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { collector, sample, .. } = self;
        let mut shown = f.debug_struct("TraceExport");
        shown.field("collector", collector).field("sample", sample).finish_non_exhaustive()
    }
}

/// The trace of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace {
    pub(crate) id: TraceId,
    pub(crate) parent: Option<SpanId>,
    /// What a caller named who is not trusted.
    pub(crate) link: Option<Parent>,
    /// Its spans are wanted.
    pub(crate) is_sampled: bool,
}

impl Trace {
    /// Without an export.
    pub(crate) fn of_caller(parent: Parent) -> Self {
        let Parent { trace, span, is_sampled } = parent;
        Self { id: trace, parent: Some(span), link: None, is_sampled }
    }
}

/// What is told of a traced request.
pub(crate) struct Traced<'a> {
    pub(crate) trace: Trace,
    pub(crate) state: Option<String>,
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
    pub(crate) spans: &'a [Span],
    pub(crate) answered: &'a Answered<'a>,
}

/// What is to be exported.
pub(crate) struct Traces {
    config: TraceExport,
    document: Document,
    random: RefCell<Rng>,
    /// Spans as they will be sent, each behind a comma.
    kept: RefCell<Vec<u8>>,
    kept_spans: Cell<u64>,
    /// Spans that the collector is being given.
    sending: Cell<u64>,
    dropped: Cell<u64>,
    /// Where those are counted for others.
    counted: Count,
    /// Of which somebody was told.
    told: Cell<u64>,
    some: Notify,
    enough: Notify,
    is_closing: Cell<bool>,
}

impl Traces {
    /// For the worker that fills `slot` for the `generation`th time.
    pub(crate) fn new(config: TraceExport, slot: u32, generation: u64, counted: Count) -> Self {
        let (seed, _) = Uuid::new_v4().as_u64_pair();
        Self {
            document: Document::new(&config, slot, generation),
            config,
            random: RefCell::new(Rng::with_seed(seed)),
            kept: RefCell::default(),
            kept_spans: Cell::default(),
            sending: Cell::default(),
            dropped: Cell::default(),
            counted,
            told: Cell::default(),
            some: Notify::new(),
            enough: Notify::new(),
            is_closing: Cell::default(),
        }
    }

    /// The trace of a request whose caller, at `peer`, has `parent`.
    pub(crate) fn begin(&self, parent: Option<Parent>, peer: Peer) -> Trace {
        match parent {
            Some(parent) if (self.config.trusts)(peer) => Trace::of_caller(parent),
            link => {
                let is_sampled = self.random.borrow_mut().f64() < self.config.sample;
                Trace { id: TraceId(self.digits()), parent: None, link, is_sampled }
            }
        }
    }

    /// Keeps the spans of a request that is over.
    pub(crate) fn keep(&self, traced: &Traced<'_>) {
        let mut kept = self.kept.borrow_mut();
        // Its own, its handler's, and those in it.
        let spans = 1 + traced.spans.len() as u64;
        if kept.len() > KEPT_BYTES_MAX {
            return self.drop_spans(spans);
        }
        write_spans(&mut kept, traced, || SpanId(self.digits()));
        self.kept_spans.set(self.kept_spans.get() + spans);
        self.some.notify_one();
        if kept.len() >= BATCH_BYTES {
            self.enough.notify_one();
        }
    }

    /// Sends what is kept, until it is closed.
    pub(crate) async fn run(self: Rc<Self>) {
        let mut post = Post::new(self.config.collector.clone());
        let mut is_well = true;
        while !self.is_closing.get() || !self.kept.borrow().is_empty() {
            self.some.notified().await;
            if !self.is_closing.get() {
                let _ = timeout(DELAY, self.enough.notified()).await;
            }
            if self.kept.borrow().is_empty() {
                continue;
            }
            let sent = timeout(POST_TIMEOUT, post.send(self.take())).await;
            let sent = sent.unwrap_or_else(|_| Err(format!("no answer within {POST_TIMEOUT:?}")));
            let spans = self.sending.take();
            match sent {
                Ok(()) => self.tell_dropped("traces were dropped; the collector takes them again"),
                Err(error) => {
                    post.forget();
                    self.drop_spans(spans);
                    if is_well {
                        let collector = &self.config.collector;
                        tracing::warn!(%collector, error, "traces are dropped: nobody takes them");
                    }
                }
            }
            is_well = self.told.get() == self.dropped.get();
        }
    }

    /// Waits until what is kept is sent, for a moment.
    pub(crate) async fn close(&self, running: impl Future) {
        self.is_closing.set(true);
        self.some.notify_one();
        self.enough.notify_one();
        let _ = timeout(GOODBYE, running).await;
        self.drop_spans(self.sending.take() + self.kept_spans.take());
        self.tell_dropped("traces were dropped to the end");
    }

    /// Says how many spans were dropped since that was said the last time, if any.
    fn tell_dropped(&self, message: &str) {
        let dropped = self.dropped.get() - self.told.replace(self.dropped.get());
        if dropped > 0 {
            tracing::warn!(dropped, "{message}");
        }
    }

    /// What is kept, on its way.
    fn take(&self) -> Bytes {
        self.sending.set(self.kept_spans.take());
        self.document.around(&self.kept.take())
    }

    fn drop_spans(&self, spans: u64) {
        self.dropped.set(self.dropped.get() + spans);
        self.counted.add(spans);
    }

    /// A name that is given once. Zeros alone would be none.
    fn digits<const N: usize>(&self) -> [u8; N] {
        let mut random = self.random.borrow_mut();
        let mut digits = [b'0'; N];
        while digits == [b'0'; N] {
            digits.fill_with(|| b"0123456789abcdef"[random.usize(..16)]);
        }
        digits
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::meters::{Counter, Meters};
    use crate::record::Stage;

    const TRUSTED: Peer = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    const STRANGER: Peer = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));

    fn traces(sample: f64) -> Traces {
        let export = TraceExport {
            collector: "http://127.0.0.1".parse().unwrap(),
            sample,
            trusts: Rc::new(|peer| peer == TRUSTED),
            service: "a service",
            version: "1",
        };
        Traces::new(export, 0, 1, Meters::detached(0).count(Counter::SpansDropped))
    }

    fn parent(is_sampled: bool) -> Parent {
        Parent { trace: TraceId([b'a'; 32]), span: SpanId([b'b'; 16]), is_sampled }
    }

    #[test]
    fn who_is_trusted_decides_about_its_trace_and_chance_about_all_others() {
        for (sample, is_chosen) in [(0.0, false), (1.0, true)] {
            let traces = traces(sample);
            for is_sampled in [false, true] {
                let told = parent(is_sampled);
                let trace = traces.begin(Some(told), TRUSTED);
                assert_eq!((trace.id, trace.parent), (told.trace, Some(told.span)));
                assert_eq!((trace.link, trace.is_sampled), (None, is_sampled));
                let trace = traces.begin(Some(told), STRANGER);
                assert_ne!(trace.id, told.trace);
                assert_eq!((trace.parent, trace.link), (None, Some(told)));
                assert_eq!(trace.is_sampled, is_chosen);
            }
            let trace = traces.begin(None, TRUSTED);
            assert_eq!((trace.parent, trace.link, trace.is_sampled), (None, None, is_chosen));
        }
    }

    #[tokio::test(flavor = "local")]
    async fn what_is_kept_for_a_collector_has_a_limit_and_the_rest_is_counted() {
        let traces = traces(1.0);
        let (trace, now) = (traces.begin(None, STRANGER), Instant::now());
        let spans = [Span { stage: Stage::Handler, begin: now, end: now }; 3];
        let answered = Answered::bare(200, "an-id");
        let mut rounds = 0;
        while traces.dropped.get() == 0 {
            let told = Traced {
                trace,
                state: None,
                begin: now,
                end: now,
                spans: &spans,
                answered: &answered,
            };
            traces.keep(&told);
            rounds += 1;
            assert!(traces.kept.borrow().len() <= KEPT_BYTES_MAX + 4096, "after {rounds} requests");
        }
        let dropped = (traces.dropped.get(), traces.counted.get());
        assert_eq!(dropped, (4, 4), "all spans of one request");
        assert_eq!(traces.kept_spans.get(), 4 * (rounds - 1));
    }
}
