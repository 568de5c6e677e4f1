//! The objects that make Postern serve an app at one address: Deployment, Service without selector, EndpointSlice.

use std::net::SocketAddr;

pub fn app(name: &str, hostname: &str, app: SocketAddr) -> String {
    let (ip, port) = (app.ip(), app.port());
    format!(
        "apiVersion: postern.dev/v1alpha1
kind: Deployment
metadata: {{name: {name}, namespace: bench}}
spec:
  hostnames: [{hostname}]
  service: {{name: {name}, port: http}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: bench}}
spec:
  ports: [{{name: http, port: 80}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: bench, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}, protocol: TCP}}]
endpoints: [{{addresses: [{ip}], conditions: {{ready: true}}}}]
"
    )
}
