//! Calls what the Rust client has for domains, mailboxes and keys, and has each kind of error raised.
//!
//! Reads one line of JSON from stdin: where, with which keys, on what. Writes one line of JSON for each call.

use sendmux::core::{Error, RequestOptions, Response, Result};
use sendmux::management::ManagementClient;
use serde_json::{json, Value};

/// Says what came, and gives the answer where there is one.
fn said<T>(call: &str, result: Result<Response<T>>) -> Option<Response<T>> {
    match result {
        Ok(answer) => {
            println!("{}", json!({"call": call, "outcome": "answer"}));
            Some(answer)
        }
        Err(Error::Api(error)) => {
            let line = json!({
                "call": call,
                "outcome": "error",
                "status": error.status.as_u16(),
                "code": error.code,
                "retryable": error.retryable,
                "id": error.request_id,
                "detailed": error.detail.is_some(),
            });
            println!("{line}");
            None
        }
        Err(error) => {
            println!("{}", json!({"call": call, "outcome": "broken", "why": format!("{error:?}")}));
            None
        }
    }
}

/// Gives the field of a domain or mailbox.
fn field(answer: Option<Response<Value>>, name: &str) -> String {
    let data = answer.map(|answer| answer.data).unwrap_or_default();
    data[name].as_str().unwrap_or("none").to_owned()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
    let given: Value = serde_json::from_str(&line)?;
    let text = |name: &str| given[name].as_str().expect("a text").to_owned();
    let client = |key: &str| ManagementClient::new(key)?.with_base_url(text("base_url"));
    let own = client(&text("key"))?;
    let verified = given["verified_domain"].clone();
    let verified_path = format!("/domains/{}", verified["id"].as_str().expect("an id"));
    let none = RequestOptions::default();

    said("get_connection", own.get_connection().await);
    let added = said(
        "create_domain",
        own.create_domain(&json!({"domain": text("new_domain"), "mode": text("new_mode")})).await,
    );
    let domain = field(added, "id");
    said("list_domains", own.list_domains().await);
    said("get_domain", own.get_domain(&domain).await);
    let path = format!("/domains/{domain}");
    said("raw_patch", own.raw_patch(&path, &json!({"mode": "send_receive"}), &none).await);
    said("raw_post", own.raw_post(&format!("{verified_path}/verify"), &json!({}), &none).await);
    let address = format!("grace@{}", verified["domain"].as_str().expect("a name"));
    let created = own.create_mailbox(&json!({"email": address, "display_name": "Grace Hopper"})).await;
    let mailbox = field(said("create_mailbox", created), "id");
    said("list_mailboxes", own.list_mailboxes().await);
    said("get_mailbox", own.get_mailbox(&mailbox).await);
    let _ = own.raw_delete(&format!("/mailboxes/{mailbox}")).await;
    said("raw_delete", own.raw_delete(&path).await);

    said("401", client("smx_root_nobodys")?.list_domains().await);
    said("403", client(&text("readonly_key"))?.raw_delete(&verified_path).await);
    said("404", own.get_domain("mdom_none").await);
    said("409", own.create_domain(&json!({"domain": verified["domain"]})).await);
    let scope = json!({"type": "providers", "provider_public_ids": ["nobody"]});
    said("422", own.create_mailbox(&json!({"email": address, "send_scope": scope})).await);
    let limited = client(&text("limited_key"))?;
    for _ in 0..=2 * given["limit"].as_u64().expect("a number") {
        if limited.get_connection().await.is_err() {
            break;
        }
    }
    said("429", limited.get_connection().await);

    let many = client(&text("many_key"))?;
    let mut names = Vec::new();
    let mut cursor = None;
    loop {
        let page = many.list_domains_with_cursor(cursor.as_deref()).await?;
        let items = page.data.as_array().cloned().unwrap_or_default();
        names.extend(items.into_iter().map(|item| item["domain"].clone()));
        cursor = page.pagination.and_then(|pagination| pagination.next_cursor);
        if cursor.is_none() {
            break;
        }
    }
    println!("{}", json!({"call": "whole list", "outcome": "answer", "names": names}));
    Ok(())
}
