//! The request as the app gets it, and the app's answer as the client gets it.

use http::{Method, Request, Response, Version};
use tokio::time::Instant;

use super::Forward;
use crate::body::clock::COARSE;
use crate::body::incoming::Incoming;
use crate::fields::cdn_loop;
use crate::proxy::body::{AppBody, Body, ResponseGuard};
use crate::proxy::headers::{self, AppHeaders};
use crate::upstream::connection::Connection;
use crate::websocket::handshake::Handshake;

impl Forward<'_> {
    /// The request as the app gets it. `expect`: the app decides whether the client may send its body.
    pub(super) fn request<B>(&self, body: B, upgrade: Option<&Handshake>, expect: bool) -> Request<B> {
        let told = AppHeaders {
            host: &self.target.host,
            origin: self.origin,
            request_id: self.request_id,
            scope: self.scope,
            deployment_id: &self.deployment.deployment_id,
            upgrade: upgrade.is_some(),
            expect,
        };
        let mut request = Request::new(body);
        // An upgrade in HTTP/2 is a CONNECT (RFC 8441 section 5), in HTTP/1.1 a GET.
        *request.method_mut() = match upgrade {
            Some(_) => Method::GET,
            None => self.head.method.clone(),
        };
        *request.uri_mut() = self.target.uri.clone();
        *request.headers_mut() = headers::to_app(&self.head.headers, told);
        if let Some(passed) = self.passed {
            passed.complete(&mut request);
        }
        // After what rules say: none of them can have a loop go on.
        cdn_loop::add_pass(&self.head.headers, request.headers_mut());
        if let Some(handshake) = upgrade {
            handshake.complete(request.headers_mut());
        }
        request
    }

    /// The app's answer, which holds the connection until its body has ended.
    pub(super) fn respond(
        &self,
        response: Response<Incoming>,
        connection: Connection,
        end: Option<Instant>,
    ) -> Response<Body> {
        let (mut head, incoming) = response.into_parts();
        let timeouts = &self.deployment.timeouts;
        headers::to_client(&mut head, self.request_id);
        // The client's hop has a version of its own; hyper knows it.
        head.version = Version::HTTP_11;
        self.client.clock.sending(timeouts.idle);
        let account = ResponseGuard {
            client: self.client.clone(),
            deployment: self.deployment.runtime.get().clone(),
            status: head.status,
            started: self.started,
            bytes: 0,
            complete: false,
            log: None,
        };
        // A long pause is the connection's clock's to notice: while the app is silent, nothing moves to the client.
        let idle = timeouts.idle.filter(|idle| *idle < COARSE);
        let body = AppBody::new(incoming, connection, account, idle, end);
        Response::from_parts(head, Body::App(Box::new(body)))
    }
}
