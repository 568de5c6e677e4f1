//! What nginx and HAProxy are told, so that they do what Postern does unasked.

use std::net::SocketAddr;
use std::path::Path;

use super::wire;

/// The certificate with its key, in the folder of the proxy.
pub const PEM: &str = "tls.pem";

/// With the headers that an ingress sends to its app, as Postern sends them unasked.
pub fn nginx(http: SocketAddr, https: Option<SocketAddr>, app: SocketAddr, folder: &Path, logs: bool) -> String {
    let folder = folder.display();
    let log = if logs { "/dev/null combined" } else { "off" };
    let tls = https.map_or_else(String::new, |https| {
        format!(
            "listen {https} ssl backlog=4096; ssl_protocols TLSv1.3;
    ssl_certificate {folder}/{PEM}; ssl_certificate_key {folder}/{PEM};"
        )
    });
    format!(
        "daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
pid {folder}/pid;
error_log stderr crit;
events {{ worker_connections 20000; }}
http {{
  access_log {log};
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream app {{ server {app}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {http} backlog=4096;
    {tls}
    server_name {host};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Real-Ip $remote_addr;
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Deployment-Id bench;
      add_header X-Request-Id $request_id;
    }}
  }}
}}
",
        host = wire::HOST
    )
}

pub fn haproxy(http: SocketAddr, https: Option<SocketAddr>, app: SocketAddr, folder: &Path) -> String {
    let tls = https.map_or_else(String::new, |https| {
        let pem = folder.join(PEM);
        format!(
            "bind {https} backlog 4096 ssl crt {} alpn h2,http/1.1 ssl-min-ver TLSv1.3",
            pem.display()
        )
    });
    format!(
        "global
  nbthread 2
  maxconn 9500
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  http-reuse always
frontend in
  bind {http} backlog 4096
  {tls}
  acl bench req.hdr(host) -i {host}
  unique-id-format %[uuid]
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Real-Ip %[src]
  http-request set-header X-Request-Id %[unique-id]
  http-request set-header X-Deployment-Id bench
  http-response set-header X-Request-Id %[unique-id]
  use_backend app if bench
backend app
  server app {app} pool-max-conn 256
",
        host = wire::HOST
    )
}
