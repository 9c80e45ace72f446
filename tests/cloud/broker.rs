//! The broker of the realm: subscriptions (exact, prefix, wildcard), publications, subscription meta events.

use super::realm::{Conn, Publication, Realm, Session, random_id, with_payload};
use reagent::clock;
use serde_json::{Value, json};

/// A topic or pattern with at least one subscriber.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub id: u64,
    pub uri: String,
    /// `exact`, `prefix` or `wildcard`.
    pub kind: String,
    pub subscribers: Vec<Conn>,
}

impl Subscription {
    fn matches(&self, topic: &str) -> bool {
        match self.kind.as_str() {
            "prefix" => topic.starts_with(&self.uri),
            "wildcard" => {
                let (pattern, parts) = (self.uri.split('.'), topic.split('.'));
                pattern.clone().count() == parts.clone().count()
                    && pattern.zip(parts).all(|(wanted, part)| wanted.is_empty() || wanted == part)
            }
            _ => self.uri == topic,
        }
    }

    /// Crossbar sends no meta events for subscriptions of its own topics.
    fn is_announced(&self) -> bool {
        !self.uri.starts_with("wamp.")
    }
}

impl Realm {
    pub(super) fn on_subscribe(&mut self, conn: Conn, request: u64, options: &Value, uri: &str) {
        let kind = options["match"].as_str().unwrap_or("exact").to_owned();
        let session = self.session(conn).map_or(0, |session| session.id);
        let found = self.subscriptions.iter().position(|known| known.uri == uri && known.kind == kind);
        let index = found.unwrap_or_else(|| {
            let subscription =
                Subscription { id: random_id(), uri: uri.to_owned(), kind: kind.clone(), subscribers: Vec::new() };
            self.subscriptions.push(subscription);
            self.subscriptions.len() - 1
        });
        let subscription = &mut self.subscriptions[index];
        let (id, announced) = (subscription.id, subscription.is_announced());
        let new = !subscription.subscribers.contains(&conn);
        if new {
            subscription.subscribers.push(conn);
        }
        self.send(conn, json!([33, request, id]));
        if announced && found.is_none() {
            let created = clock::wall().to_string();
            let details = json!({"id": id, "created": created, "uri": uri, "match": kind});
            self.meta("wamp.subscription.on_create", json!([session, details]));
        }
        if announced && new {
            self.meta("wamp.subscription.on_subscribe", json!([session, id]));
        }
    }

    pub(super) fn on_unsubscribe(&mut self, conn: Conn, request: u64, id: &Value) {
        let session = self.session(conn).map_or(0, |session| session.id);
        let known = |known: &Subscription| json!(known.id) == *id && known.subscribers.contains(&conn);
        let Some(index) = self.subscriptions.iter().position(known) else {
            return self.send(conn, json!([8, 34, request, {}, "wamp.error.no_such_subscription"]));
        };
        self.send(conn, json!([35, request]));
        self.unsubscribe(index, conn, &json!(session));
    }

    pub(super) fn forget_subscriptions(&mut self, conn: Conn) {
        while let Some(index) = self.subscriptions.iter().position(|known| known.subscribers.contains(&conn)) {
            self.unsubscribe(index, conn, &Value::Null);
        }
    }

    /// `session` is null for a session that was lost, as Crossbar publishes it.
    fn unsubscribe(&mut self, index: usize, conn: Conn, session: &Value) {
        let subscription = &mut self.subscriptions[index];
        subscription.subscribers.retain(|&subscriber| subscriber != conn);
        let (id, announced, last) = (subscription.id, subscription.is_announced(), subscription.subscribers.is_empty());
        if last {
            self.subscriptions.remove(index);
        }
        if announced {
            self.meta("wamp.subscription.on_unsubscribe", json!([session, id]));
            if last {
                self.meta("wamp.subscription.on_delete", json!([session, id]));
            }
        }
    }

    pub(super) fn on_publish(&mut self, conn: Conn, request: u64, options: &Value, uri: &str, payload: Vec<Value>) {
        let Some(session) = self.session(conn).cloned() else { return };
        let acknowledge = options["acknowledge"] == true;
        if uri.starts_with("wamp.") {
            if acknowledge {
                let text = format!("publish with restricted URI '{uri}'");
                self.send(conn, json!([8, 16, request, {}, "wamp.error.invalid_uri", [text]]));
            }
            return;
        }
        if acknowledge {
            self.send(conn, json!([17, request, random_id()]));
        }
        let excluded = (options["exclude_me"] != false).then_some(conn);
        self.publish(&session, excluded, &Publication { topic: uri.to_owned(), payload });
    }

    /// Sends a publication to every matching subscriber but `excluded`, once per subscription.
    pub(super) fn publish(&mut self, publisher: &Session, excluded: Option<Conn>, publication: &Publication) {
        let id = random_id();
        let mut events = Vec::new();
        for subscription in self.subscriptions.iter().filter(|known| known.matches(&publication.topic)) {
            let mut details = json!({
                "publisher": publisher.id,
                "publisher_authid": publisher.authid,
                "publisher_authrole": publisher.role,
            });
            if subscription.kind != "exact" {
                details["topic"] = json!(publication.topic);
            }
            let event = with_payload(json!([36, subscription.id, id, details]), publication.payload.clone());
            let receivers = subscription.subscribers.iter().filter(|&&subscriber| Some(subscriber) != excluded);
            events.extend(receivers.map(|&receiver| (receiver, event.clone())));
        }
        for (receiver, event) in events {
            self.send(receiver, event);
        }
    }

    /// The answer of `wamp.subscription.match`: the ids of the matching subscriptions, null if there is none.
    pub(super) fn match_subscriptions(&self, topic: &str) -> Value {
        let ids: Vec<u64> =
            self.subscriptions.iter().filter(|known| known.matches(topic)).map(|known| known.id).collect();
        if ids.is_empty() { Value::Null } else { json!(ids) }
    }
}
