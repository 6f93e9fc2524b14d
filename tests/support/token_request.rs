//! Token requests, sent as a program would that knows nothing of OAuth.

use hallmark_proto::v1::TokenRequest;
use serde_json::Value;

/// Sends what the reply describes; gives status and answer.
pub(crate) async fn send(described: &TokenRequest) -> (u16, Value) {
    let fields: Vec<_> = described.form.iter().map(|field| (&field.name, &field.value)).collect();
    let method = described.method.parse().unwrap();
    let mut request = reqwest::Client::new().request(method, &described.url).form(&fields);
    for header in &described.headers {
        request = request.header(&header.name, &header.value);
    }
    let answer = request.header("content-type", &described.content_type).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}
