//! A request as both sides get it. `{index}` stands for the index, in the path and in the body; `{pit}` for a point
//! in time on it.

use reqwest::Method;
use serde_json::{Value, json};

use super::format::{self, Format};
use crate::Api;

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The rows of the tables that it was made of.
    pub(super) made_of: Vec<&'static str>,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) body: Body,
    pub(super) format: Format,
    /// What the body says of its size decides what it means.
    pub(super) size_is_fixed: bool,
    /// Nothing may be added.
    pub(super) alone: bool,
    pub(super) around: Around,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    Json(Value),
    /// One value a line.
    Lines(Vec<Value>),
    /// Not JSON, or JSON that no value can say.
    Text(String),
}

/// What else is asked with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Around {
    Nothing,
    /// A point in time is opened before and closed after.
    Pit,
    /// `scroll` is in the URL: the pages after the first are asked for too.
    Scroll,
    /// The next page by `search_after` is asked for too.
    NextPage,
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Those that clients read, sorted.
    pub(super) headers: Vec<(String, String)>,
    pub(super) way: String,
    pub(super) body: Value,
    pub(super) text: String,
}

impl Request {
    /// `POST {index}/_search`.
    pub(super) fn search(body: Value) -> Self {
        Self::to("/{index}/_search", Body::Json(body))
    }

    pub(super) fn to(path: &str, body: Body) -> Self {
        Self {
            made_of: Vec::new(),
            method: Method::POST,
            path: path.to_owned(),
            parameters: Vec::new(),
            body,
            format: Format::Json,
            size_is_fixed: false,
            alone: false,
            around: Around::Nothing,
        }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body, where it is one JSON object.
    pub(super) fn object(&mut self) -> Option<&mut Value> {
        match &mut self.body {
            Body::Json(body) if body.is_object() => Some(body),
            _ => None,
        }
    }

    /// Sends it, and what goes with it; all answers in order. `None`: no response came.
    pub(super) async fn ask(&self, api: &Api, index: &str) -> Option<Vec<Answer>> {
        let pit = match self.around {
            Around::Pit => {
                let opened =
                    api.try_call(Method::POST, &format!("/{index}/_pit?keep_alive=1m"), None).await?;
                opened.body["id"].as_str().unwrap_or_default().to_owned()
            }
            _ => String::new(),
        };
        let fill = |text: &str| text.replace("{index}", index).replace("{pit}", &pit);
        let mut answers = vec![self.send(api, &fill).await?];
        match self.around {
            Around::Pit => {
                api.try_call(Method::DELETE, "/_pit", Some(json!({"id": pit}).to_string())).await?;
            }
            Around::Scroll => answers.extend(scrolled(api, &answers[0]).await?),
            Around::NextPage => answers.extend(self.next_page(api, &fill, &answers[0]).await?),
            Around::Nothing => {}
        }
        Some(answers)
    }

    async fn send(&self, api: &Api, fill: &(impl Fn(&str) -> String + Sync)) -> Option<Answer> {
        let (mut path, headers, bytes) = format::encoded(self, fill);
        for (number, (name, value)) in self.parameters.iter().enumerate() {
            let joint = if number == 0 && !path.contains('?') { '?' } else { '&' };
            path.push_str(&format!("{joint}{name}={}", format::escaped(value)));
        }
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let reply = api.try_send(self.method.clone(), &path, &headers, bytes).await?;
        Some(Answer::of(reply))
    }

    /// The page after one that was sorted.
    async fn next_page(
        &self,
        api: &Api,
        fill: &(impl Fn(&str) -> String + Sync),
        first: &Answer,
    ) -> Option<Vec<Answer>> {
        let hits = first.body["hits"]["hits"].as_array().cloned().unwrap_or_default();
        let Some(after) = hits.last().and_then(|hit| hit.get("sort")) else { return Some(Vec::new()) };
        let mut next = self.clone();
        let Some(body) = next.object() else { return Some(Vec::new()) };
        body["search_after"] = after.clone();
        Some(vec![next.send(api, fill).await?])
    }

    /// For people: a call of `curl` on `$URL`.
    pub(super) fn curl(&self, index: &str) -> String {
        let query: Vec<String> = self
            .parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", format::escaped(value)))
            .collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let path = self.path.replace("{index}", index);
        let (kind, body) = match &self.body {
            Body::Json(body) => ("json", body.to_string()),
            Body::Lines(lines) => ("x-ndjson", lines.iter().map(|line| format!("{line}\n")).collect()),
            Body::Text(text) => ("json", text.clone()),
        };
        let sent = match self.format {
            Format::Json => String::new(),
            other => format!("   # sent as {other:?}"),
        };
        let around = match self.around {
            Around::Nothing => String::new(),
            other => format!("   # with {other:?}"),
        };
        format!(
            "curl -X{} \"$URL{path}{query}\" -H 'content-type: application/{kind}' --data-binary '{}'{sent}{around}",
            self.method,
            body.replace("{index}", index).replace('\'', "'\\''")
        )
    }
}

async fn scrolled(api: &Api, first: &Answer) -> Option<Vec<Answer>> {
    let mut pages = Vec::new();
    let mut id = first.body["_scroll_id"].as_str().unwrap_or_default().to_owned();
    while !id.is_empty() && pages.len() < 3 {
        let body = json!({"scroll": "1m", "scroll_id": id}).to_string();
        let page = Answer::of(api.try_call(Method::POST, "/_search/scroll", Some(body)).await?);
        let next = page.body["_scroll_id"].as_str().unwrap_or_default().to_owned();
        let is_last = page.body["hits"]["hits"].as_array().is_none_or(Vec::is_empty);
        pages.push(page);
        let used = std::mem::replace(&mut id, next);
        if is_last {
            let body = json!({"scroll_id": used}).to_string();
            api.try_call(Method::DELETE, "/_search/scroll", Some(body)).await?;
            break;
        }
    }
    Some(pages)
}

impl Answer {
    fn of(reply: crate::Reply) -> Self {
        const READ: [&str; 4] = ["content-type", "x-elastic-product", "warning", "content-encoding"];
        let mut headers: Vec<(String, String)> =
            reply.headers.into_iter().filter(|(name, _)| READ.contains(&name.as_str())).collect();
        headers.sort();
        let body = format::decoded(&headers, &reply.bytes);
        Self { status: reply.status, headers, way: reply.way, body, text: reply.text }
    }
}
