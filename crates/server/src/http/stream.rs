//! Answers that come piece by piece: server-sent events.
//!
//! A task of its own takes the events of the jobs and writes what they become. When the client is gone it ends at once; the
//! engine then finds nobody listening, and stops the work. Where nothing happens for a while, something is said all the
//! same: clients and proxies give up on a silent connection, and comments reset no client's clock.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::ApiError;
use crate::work::Event;

/// Pieces that wait for a slow reader before its answer waits, too.
const MOST_PENDING: usize = 64;

/// The events of all answers to one request.
pub type Events = mpsc::UnboundedReceiver<(usize, Event)>;

/// What the events of a stream are called and look like: an interface's own words.
pub trait Render: Send + 'static {
    /// What an event of answer `index` becomes, in order; each is the text of one server-sent event.
    fn event(&mut self, index: usize, event: Event) -> Vec<String>;

    /// What is said where nothing happens.
    fn heartbeat(&mut self) -> Vec<String>;

    /// Whether all answers have ended.
    fn is_done(&self) -> bool;

    /// What comes after that.
    fn end(&mut self) -> Vec<String>;
}

/// The next event of the answers to a request.
///
/// # Errors
/// An answer has failed, or the engine has ended.
pub async fn next(events: &mut Events) -> Result<(usize, Event), ApiError> {
    match events.recv().await {
        Some((_, Event::Failed(error))) => Err(error),
        Some(told) => Ok(told),
        None => Err(ended()),
    }
}

fn ended() -> ApiError {
    ApiError::unavailable("the engine has ended in the middle of the answer")
}

/// `data:` and a JSON value.
pub fn data(value: &impl Serialize) -> String {
    format!("data: {}\n\n", json(value))
}

/// The same, with the name of the event.
pub fn named(name: &str, value: &impl Serialize) -> String {
    format!("event: {name}\ndata: {}\n\n", json(value))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| {
        serde_json::to_string(&ApiError::internal(error.to_string()).body()).unwrap_or_default()
    })
}

/// Answers with a stream. The first event is waited for, though not for long: an error that comes first has a status of its
/// own.
///
/// # Errors
/// The first event is an error.
pub async fn respond(
    mut events: Events,
    render: impl Render,
    heartbeat: Duration,
) -> Result<Response, ApiError> {
    let first = match tokio::time::timeout(heartbeat, events.recv()).await {
        Ok(Some((_, Event::Failed(error)))) => return Err(error),
        Ok(first) => first,
        Err(_) => None,
    };
    let (sender, pieces) = mpsc::channel(MOST_PENDING);
    tokio::spawn(write(first, events, render, heartbeat, sender));
    let body = ReceiverStream::new(pieces).map(|piece| Ok::<_, std::convert::Infallible>(Bytes::from(piece)));
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

async fn write(
    first: Option<(usize, Event)>,
    mut events: Events,
    mut render: impl Render,
    heartbeat: Duration,
    sender: mpsc::Sender<String>,
) {
    let mut pieces = match first {
        Some((index, event)) => render.event(index, event),
        None => render.heartbeat(),
    };
    loop {
        if render.is_done() {
            pieces.extend(render.end());
        }
        let text = std::mem::take(&mut pieces).concat();
        if !text.is_empty() && sender.send(text).await.is_err() || render.is_done() {
            return;
        }
        tokio::select! {
            () = sender.closed() => return,
            event = events.recv() => match event {
                Some((index, event)) => pieces = render.event(index, event),
                None => {
                    let _ = sender.send(render.event(0, Event::Failed(ended())).concat()).await;
                    return;
                }
            },
            () = tokio::time::sleep(heartbeat) => pieces = render.heartbeat(),
        }
    }
}
