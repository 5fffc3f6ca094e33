//! What the code tells with `tracing`, as lines.
//!
//! `super::start` makes it the subscriber's one layer; it writes into the [`Sink`]. An event is rare and
//! may be the last one: it is written at once, with all lines before it.
//! Does not know: which events are wanted; a filter decides before.

use std::error::Error;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::line::Line;
use super::sink::Sink;

/// Writes events.
pub(super) struct Events(pub(super) &'static Sink);

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let told = event.metadata();
        self.0.put(*told.level(), told.target(), |line| event.record(&mut Fields(line)));
        self.0.flush();
    }
}

/// The fields of an event, in their order.
struct Fields<'l, 'a>(&'l mut Line<'a>);

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0.message(value),
            name => self.0.shown(name, value),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.0.message(&format_args!("{value}")),
            name => self.0.text(name, value),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.0.shown(field.name(), &format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.plain(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.whole(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.plain(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.0.plain(field.name(), value),
            false => self.0.shown(field.name(), &value),
        }
    }
}
