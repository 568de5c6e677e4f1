//! What holds however clients come is written once, and is a test for each transport.

/// One test per transport: `name::plain`, `name::tls`, `name::http2`.
macro_rules! over_each {
    ($($(#[$note:meta])* async fn $name:ident($over:ident: Transport) $body:block)+) => {$(
        $(#[$note])*
        async fn $name($over: Transport) $body

        mod $name {
            use crate::support::front::Transport;

            #[tokio::test]
            async fn plain() {
                super::$name(Transport::Plain).await;
            }

            #[tokio::test]
            async fn tls() {
                super::$name(Transport::Tls).await;
            }

            #[tokio::test]
            async fn http2() {
                super::$name(Transport::Http2).await;
            }
        }
    )+};
}

/// The same for what is a matter of HTTP/1.1.
macro_rules! over_http1 {
    ($($(#[$note:meta])* async fn $name:ident($over:ident: Transport) $body:block)+) => {$(
        $(#[$note])*
        async fn $name($over: Transport) $body

        mod $name {
            use crate::support::front::Transport;

            #[tokio::test]
            async fn plain() {
                super::$name(Transport::Plain).await;
            }

            #[tokio::test]
            async fn tls() {
                super::$name(Transport::Tls).await;
            }
        }
    )+};
}
