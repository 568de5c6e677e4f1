//! The line between Postern and the apiserver, which a test can cut.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::control_plane::ControlPlane;

pub struct Link {
    address: SocketAddr,
    up: watch::Sender<bool>,
}

impl Link {
    pub async fn to(control_plane: &ControlPlane) -> Self {
        let server = control_plane.config().await.expect("a configuration").cluster_url;
        let port = server.port_u16().expect("a port");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("is bound");
        let (up, state) = watch::channel(true);
        tokio::spawn(async move {
            loop {
                let Ok((mut near, _)) = listener.accept().await else {
                    return;
                };
                let mut state = state.clone();
                tokio::spawn(async move {
                    if !*state.borrow_and_update() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|up| !up) => {}
                    }
                });
            }
        });
        Self { address, up }
    }

    /// A client at the far end of the line.
    pub async fn client(&self, control_plane: &ControlPlane) -> kube::Client {
        let mut config = control_plane.config().await.expect("a configuration");
        config.cluster_url = format!("https://{}", self.address).parse().expect("a URL");
        config.try_into().expect("a client")
    }

    /// Connections break, new ones break at once.
    pub fn cut(&self) {
        self.up.send_replace(false);
    }

    pub fn mend(&self) {
        self.up.send_replace(true);
    }
}
