//! What holds however clients come is written once, as a function of the transport, and is a test for each.

/// `name::plain`, `name::tls` and `name::http2` of each function.
macro_rules! over_each {
    ($($name:ident),+ $(,)?) => {$(
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

/// The same without HTTP/2, for what is a matter of HTTP/1.1.
macro_rules! over_http1 {
    ($($name:ident),+ $(,)?) => {$(
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
