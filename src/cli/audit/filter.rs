//! Which records somebody asked for.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value};

use super::super::args::FilterArgs;

/// Goes through records in their order: an outcome says nothing of client and workload, its intent does.
pub(super) struct Filter<'a> {
    args: &'a FilterArgs,
    /// Whether the intent of this request was asked for.
    requests: HashMap<String, bool>,
    order: VecDeque<String>,
}

/// More than are ever under way.
const MOST_REQUESTS: usize = 100_000;

impl<'a> Filter<'a> {
    pub(super) fn new(args: &'a FilterArgs) -> Self {
        Self { args, requests: HashMap::new(), order: VecDeque::new() }
    }

    /// Whether it lets anything through.
    pub(super) fn is_open(&self) -> bool {
        let FilterArgs { client, workload, kind } = self.args;
        client.is_none() && workload.is_none() && kind.is_none()
    }

    pub(super) fn admits(&mut self, record: &Map<String, Value>) -> bool {
        if self.is_open() {
            return true;
        }
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let FilterArgs { client, workload, kind } = self.args;
        let is = |wanted: &Option<String>, names: &[&str]| {
            wanted.as_deref().is_none_or(|wanted| names.iter().any(|name| text(name) == Some(wanted)))
        };
        let request = text("request").unwrap_or_default();
        let event = text("event").unwrap_or_default();
        if event == "sign-outcome" && kind.as_deref() != Some("sign-outcome") {
            return self.requests.remove(request).unwrap_or(false);
        }
        let of_request = match event {
            "sign-outcome" => self.requests.remove(request).unwrap_or(false),
            _ => is(client, &["client", "subject"]) && is(workload, &["who"]),
        };
        if event == "sign-intent" {
            let wanted = of_request && (is(kind, &["kind", "event"]) || kind.as_deref() == Some("sign-outcome"));
            self.remember(request.to_owned(), wanted);
        }
        of_request && is(kind, &["kind", "event"])
    }

    fn remember(&mut self, request: String, wanted: bool) {
        if self.order.len() == MOST_REQUESTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.requests.remove(&oldest);
        }
        self.order.push_back(request.clone());
        self.requests.insert(request, wanted);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outcome_belongs_to_its_intent() {
        let records = [
            json!({ "event": "sign-intent", "request": "1", "client": "a", "who": "w", "kind": "assertion" }),
            json!({ "event": "sign-intent", "request": "2", "client": "b", "who": "w", "kind": "probe" }),
            json!({ "event": "sign-outcome", "request": "2" }),
            json!({ "event": "sign-outcome", "request": "1" }),
            json!({ "event": "refused", "request": "3", "client": "a", "who": "v" }),
        ];
        let admitted = |client: Option<&str>, workload: Option<&str>, kind: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let args = FilterArgs { client: own(client), workload: own(workload), kind: own(kind) };
            let mut filter = Filter::new(&args);
            let admits = records.iter().map(|record| filter.admits(record.as_object().unwrap()));
            admits.enumerate().filter_map(|(index, admits)| admits.then_some(index)).collect::<Vec<_>>()
        };
        assert_eq!(admitted(None, None, None), [0, 1, 2, 3, 4]);
        assert_eq!(admitted(Some("a"), None, None), [0, 3, 4]);
        assert_eq!(admitted(Some("a"), Some("w"), None), [0, 3]);
        assert_eq!(admitted(None, None, Some("probe")), [1, 2]);
        assert_eq!(admitted(None, None, Some("refused")), [4]);
        assert_eq!(admitted(Some("b"), None, Some("sign-outcome")), [2]);
    }
}
