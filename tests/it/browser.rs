//! The page's client line in real browsers: `new WebSocket("wss://myapp-api-acme.<apex>/ws")`. Which protocol carries the
//! socket is the browser's to choose, by what Postern offers.

use crate::support::apps::{App, Runtime};
use crate::support::chromium::Chromium;
use crate::support::firefox::Firefox;
use crate::wss::{ASSIGNED, CUSTOM, Domains};

fn carried(answer: &str, protocol: &str) -> (String, String) {
    (answer.to_owned(), protocol.to_owned())
}

#[tokio::test]
async fn chromium_talks_to_the_sample_app_through_both_domains_over_http1() {
    let app = App::start(Runtime::Node, "sample.mjs").await;
    let domains = Domains::start(app.address, &[]).await;
    let mut browser = Chromium::start(&domains.authority, domains.postern.https).await;
    // Without an open connection that offers more, a browser opens one for the socket that speaks HTTP/1.1.
    for host in [ASSIGNED, CUSTOM] {
        let heard = browser.echo(host, "hello").await;
        assert_eq!(heard, carried("echo: hello", "http/1.1"), "{host}");
    }
}

#[tokio::test]
async fn chromium_opens_its_sockets_over_the_http2_connection_of_the_page() {
    let app = App::start(Runtime::Node, "echo.mjs").await;
    let domains = Domains::start(app.address, &[]).await;
    let mut browser = Chromium::start(&domains.authority, domains.postern.https).await;
    for host in [ASSIGNED, CUSTOM] {
        assert_eq!(browser.visit(host).await, "h2");
        for text in ["one", "two"] {
            let heard = browser.echo(host, text).await;
            assert_eq!(heard, carried(text, "h2"), "{host}");
        }
    }
}

#[tokio::test]
async fn chromium_falls_back_to_http1_where_sockets_over_http2_are_off() {
    let app = App::start(Runtime::Node, "echo.mjs").await;
    let domains = Domains::start(app.address, &["--websocket-http2", "false"]).await;
    let mut browser = Chromium::start(&domains.authority, domains.postern.https).await;
    for host in [ASSIGNED, CUSTOM] {
        assert_eq!(browser.visit(host).await, "h2");
        let heard = browser.echo(host, "hello").await;
        assert_eq!(heard, carried("hello", "http/1.1"), "{host}");
        // The page's connection serves on.
        assert_eq!(browser.visit(host).await, "h2");
    }
}

#[tokio::test]
async fn firefox_opens_its_socket_over_http2_and_falls_back_where_that_is_off() {
    let app = App::start(Runtime::Node, "echo.mjs").await;
    for (flags, protocol) in [(&[][..], "h2"), (&["--websocket-http2", "false"], "http/1.1")] {
        let domains = Domains::start(app.address, flags).await;
        let mut browser = Firefox::start(&domains.authority, domains.postern.https, CUSTOM).await;
        assert_eq!(browser.visit(CUSTOM).await, "h2");
        assert_eq!(browser.echo(CUSTOM, "hello").await, carried("hello", protocol));
    }
}
