# shellcheck shell=bash disable=SC2034 # check.sh reads what is set here
# The tutorial, chapter by chapter: what is applied, and what holds afterwards. Sourced by check.sh.
#
# Before a claim, what it is about: `sidecar` and `gateway` are what each of their new lines matches (empty: no line), `arrives` is the
# site that is asked, `times` how often the call is made.

readonly X=10.1.0.17 Y=10.1.1.25 EXAMPLE_COM=203.0.113.34 HTTPBIN_ORG=203.0.113.80
readonly DENIED='RBAC: access denied.403$' OK='(^|[^0-9])200$'
readonly BLOCKED='" 502 - direct_response .* block_all$' BLACK_HOLE='"- - -" 0 UH .* BlackHoleCluster '

# The hop from a sidecar to the gateway's port 8080: REQUEST STATUS POD
to_gateway() {
  printf '"%s" %s - via_upstream - "-" .* "%s:8080" outbound\\|80\\|target-egress-gateway-mTLS\\|istio-egressgateway[^ ]* %s:' \
    "$1" "$2" "$GATEWAY" "$3"
}

# The hop from there to a site: REQUEST STATUS POD SITE CLUSTER
from_gateway() {
  printf '"%s" %s - via_upstream - "-" .* "%s" .* "%s" %s [^ ]* %s:8080 %s:[0-9]+ outbound_\\.80_' \
    "$1" "$2" "$3" "$4" "${5//|/\\|}" "$GATEWAY" "$3"
}

# A request that the gateway's policies deny: REQUEST POD CLUSTER
denied() {
  printf '"%s" 403 - rbac_access_denied_matched_policy\\[none\\] - "-" 0 19 .* "-" %s - %s:8080 %s:' "$1" "${3//|/\\|}" "$GATEWAY" "$2"
}

# TLS of the application's own to the gateway's port 8443, and on: POD, POD HOST SITE
tls_to_gateway() {
  printf '"- - -" 0 - .* "%s:8443" outbound\\|443\\|target-egress-gateway-TLS-passthrough\\|[^ ]* %s:' "$GATEWAY" "$1"
}
tls_from_gateway() {
  printf '"- - -" 0 - - - .* "%s:443" outbound\\|443\\|\\|%s [^ ]* %s:8443 %s:[0-9]+ %s -$' "$3" "$2" "$GATEWAY" "$1" "$2"
}

claims() {
  chapter 'Before any route'
  sidecar='"GET / HTTP/1.1" 503 [^ ]*UF[^ ]* upstream_reset_before_response_started.* PassthroughCluster '
  claim 'team-x cannot reach example.com: the firewall stops its sidecar' team-x '503$' http://example.com
  claim 'a process that capture does not see gets nowhere either' uncaptured 'exit (7|28)$' --connect-timeout 2 http://example.com

  chapter 'Limit the scope of sidecars'
  apply tutorial/30-sidecar-team-x.yaml
  sidecar=$BLOCKED
  claim 'unknown hosts are refused by the sidecar itself' team-x '502$' http://example.com

  chapter 'Route through the egress gateway'
  apply tutorial-steps/relay/{40-gateway,41-target-egress-gateway}.yaml tutorial/42-example-com.yaml \
    tutorial-steps/relay/43-example-com-route.yaml
  times=4 arrives=example-com
  sidecar=$(to_gateway 'HEAD / HTTP/1.1' 200 $X)
  gateway=$(from_gateway 'HEAD / HTTP/2' 200 $X $EXAMPLE_COM:80 'outbound|80||example.com')
  claim 'team-x reaches example.com through the gateway, four times out of four' team-x "$OK" -I http://example.com

  chapter 'A second namespace'
  apply tutorial/{50-sidecar-team-y,51-test-app-team-y,52-httpbin-org}.yaml tutorial-steps/relay/53-httpbin-org-route.yaml
  arrives=httpbin-org
  sidecar=$(to_gateway 'HEAD / HTTP/1.1' 200 $Y)
  gateway=$(from_gateway 'HEAD / HTTP/2' 200 $Y $HTTPBIN_ORG:80 'outbound|80||httpbin.org')
  claim 'team-y reaches httpbin.org' team-y "$OK" -I http://httpbin.org
  arrives=httpbin-org
  sidecar=$(to_gateway 'HEAD / HTTP/1.1' 200 $X)
  gateway=$(from_gateway 'HEAD / HTTP/2' 200 $X $HTTPBIN_ORG:80 'outbound|80||httpbin.org')
  claim 'team-x reaches httpbin.org' team-x "$OK" -I http://httpbin.org
  arrives=httpbin-org sidecar='" 200 ' gateway='" 200 '
  claim "httpbin.org sees the gateway's address, not team-x's" team-x '"origin": "203.0.113.12".*200$' http://httpbin.org/ip
  sidecar=$BLOCKED
  claim 'team-y cannot reach example.com: nothing was exported to it' team-y '502$' http://example.com

  chapter 'Authorization: team-x to example.com only'
  apply tutorial/60-policy-team-x-example-com.yaml
  arrives=example-com
  sidecar=$(to_gateway 'HEAD / HTTP/1.1' 200 $X)
  gateway=$(from_gateway 'HEAD / HTTP/2' 200 $X $EXAMPLE_COM:80 'outbound|80||example.com')
  claim 'team-x still reaches example.com' team-x "$OK" -I http://example.com
  sidecar=$(to_gateway 'GET / HTTP/1.1' 403 $X)
  gateway=$(denied 'GET / HTTP/2' $X 'outbound|80||httpbin.org')
  claim 'team-x is denied httpbin.org' team-x "$DENIED" http://httpbin.org

  chapter 'Authorization: team-y to the teapot only'
  apply tutorial/61-policy-team-y-httpbin-teapot.yaml
  sidecar=$(to_gateway 'GET / HTTP/1.1' 403 $Y)
  gateway=$(denied 'GET / HTTP/2' $Y 'outbound|80||httpbin.org')
  claim 'team-y is denied httpbin.org/' team-y "$DENIED" http://httpbin.org
  arrives=httpbin-org
  sidecar=$(to_gateway 'GET /status/418 HTTP/1.1' 418 $Y)
  gateway=$(from_gateway 'GET /status/418 HTTP/2' 418 $Y $HTTPBIN_ORG:80 'outbound|80||httpbin.org')
  claim 'team-y gets its teapot' team-y 'I am a teapot.*418$' http://httpbin.org/status/418
  sidecar=$(to_gateway 'GET /status/418 HTTP/1.1' 403 $X)
  gateway=$(denied 'GET /status/418 HTTP/2' $X 'outbound|80||httpbin.org')
  claim 'team-x is not allowed what team-y is' team-x "$DENIED" http://httpbin.org/status/418

  chapter 'TLS origination'
  apply tutorial/70-example-com-originate-tls.yaml tutorial-steps/origination/43-example-com-route.yaml
  run_example_com_by impostor
  sidecar='" 503 - via_upstream '
  gateway='" 503 [^ ]*UF[^ ]* [^ ]* .*CERTIFICATE_VERIFY_FAILED.* outbound\|443\|example-com-originate-TLS\|example.com '
  claim 'an impostor of example.com, certified by nobody we trust, gets no request' team-x '503$' http://example.com
  run_example_com_by example.com
  times=4 arrives=example-com
  sidecar=$(to_gateway 'HEAD / HTTP/1.1' 200 $X)
  gateway=$(from_gateway 'HEAD / HTTP/2' 200 $X $EXAMPLE_COM:443 'outbound|443|example-com-originate-TLS|example.com')
  claim 'team-x reaches example.com, over TLS from the gateway on, four times out of four' team-x "$OK" -I http://example.com

  chapter 'TLS passthrough'
  apply tutorial/{40-gateway,41-target-egress-gateway,43-example-com-route,53-httpbin-org-route,80-policy-all-443}.yaml
  arrives=example-com
  sidecar=$(to_gateway 'HEAD / HTTP/1.1' 200 $X)
  gateway=$(from_gateway 'HEAD / HTTP/2' 200 $X $EXAMPLE_COM:443 'outbound|443|example-com-originate-TLS|example.com')
  claim 'plain http still works as before' team-x "$OK" -I http://example.com
  times=4 arrives=example-com sidecar=$(tls_to_gateway $X) gateway=$(tls_from_gateway $X example.com $EXAMPLE_COM)
  claim 'team-x reaches https://example.com, four times out of four' team-x "$OK" https://example.com
  arrives=httpbin-org sidecar=$(tls_to_gateway $Y) gateway=$(tls_from_gateway $Y httpbin.org $HTTPBIN_ORG)
  claim 'team-y reaches https://httpbin.org' team-y "$OK" https://httpbin.org
  sidecar=$BLACK_HOLE
  claim 'team-y does not reach https://example.com: its sidecar has no such route' team-y 'exit (35|56)$' https://example.com

  chapter 'Network policies'
  apply tutorial/90-network-policies.yaml
  arrives=example-com sidecar='" 200 .* "10.1.4.12:8080" ' gateway="\" 200 .* \"$EXAMPLE_COM:443\" "
  claim 'team-x still reaches example.com' team-x "$OK" -I http://example.com

  chapter 'Google APIs, directly'
  apply tutorial/{91-google-service-account,92-google-metadata-server,93-google-apis}.yaml
  arrives=metadata sidecar='" 200 .* "10.1.200.254:80" outbound\|80\|\|metadata.google.internal .* default$'
  claim 'team-x asks the metadata server who it is' team-x 'sa-test-app-team-x.*200$' -H 'metadata-flavor: Google' \
    http://metadata.google.internal/email
  arrives=storage sidecar='"- - -" 0 - .* "10.1.200.8:443" outbound\|443\|\|storage.googleapis.com .* storage.googleapis.com '
  claim 'team-x reads a file from storage.googleapis.com without the gateway' team-x 'Hello, World!.*200$' \
    https://storage.googleapis.com/bucket/hello
  sidecar=$BLACK_HOLE
  claim 'team-y does not: the service is not exported to it' team-y 'exit (35|56)$' https://storage.googleapis.com/bucket/hello

  around_the_mesh
  explicit_proxy
  live
}

around_the_mesh() {
  chapter 'Around the mesh'
  local at_gateway=(-k --connect-to "::$GATEWAY:8080")
  as() { printf '%s\n' --cert "/pki/$1/cert-chain.pem" --key "/pki/$1/key.pem"; }
  local x y stranger
  mapfile -t x < <(as team-x)
  mapfile -t y < <(as team-y)
  mapfile -t stranger < <(as stranger)
  claim 'bypassing the sidecar gets nowhere' uncaptured 'exit (7|28)$' --connect-timeout 2 https://example.com
  claim 'the gateway refuses plaintext' direct 'exit (1|52|56)$' "${at_gateway[@]}" http://example.com
  claim 'the gateway refuses a caller without a mesh certificate' direct 'exit (35|52|55|56)$' "${at_gateway[@]}" https://example.com
  claim 'the gateway refuses a caller from a foreign trust domain' direct 'exit (35|52|55|56)$' "${at_gateway[@]}" "${stranger[@]}" \
    https://example.com
  gateway='" 403 - rbac_access_denied_matched_policy\[none\]'
  claim 'team-y, at the gateway in person, is recognised and still denied example.com' direct "$DENIED" \
    "${at_gateway[@]}" "${y[@]}" https://example.com
  arrives=example-com gateway="\" 200 - via_upstream .* \"$EXAMPLE_COM:443\""
  claim 'team-x, at the gateway in person, is who its certificate says' direct "$OK" "${at_gateway[@]}" "${x[@]}" https://example.com
}

explicit_proxy() {
  chapter 'The explicit proxy'
  local proxy=(--proxy http://127.0.0.1:15080)
  arrives=example-com sidecar='" 200 .* "10.1.4.12:8080" ' gateway="\" 200 .* \"$EXAMPLE_COM:443\" "
  claim 'http leaves through the gateway' team-x "$OK" "${proxy[@]}" http://example.com
  arrives=example-com sidecar='"CONNECT [^"]*" 200 .* "10.1.4.12:8443" ' gateway='"- - -" 0 - .* outbound\|443\|\|example.com '
  claim "the application's own TLS passes through a tunnel" team-x "$OK" "${proxy[@]}" https://example.com
  sidecar='" 403 ' gateway='" 403 - rbac_access_denied_matched_policy\[none\]'
  claim 'policy is the same' team-x "$DENIED" "${proxy[@]}" http://httpbin.org
}

live() {
  chapter 'Live'
  withdraw 60-policy-team-x-example-com.yaml
  sidecar='" 403 ' gateway=$(denied 'GET / HTTP/2' $X 'outbound|443|example-com-originate-TLS|example.com')
  claim 'without its policy team-x is denied example.com' team-x "$DENIED" http://example.com
  within 1000 'the change was in force everywhere within a second'
  apply tutorial/60-policy-team-x-example-com.yaml
  arrives=example-com sidecar='" 200 ' gateway='" 200 '
  claim 'with it, it is allowed again' team-x "$OK" http://example.com
  within 1000 'that, too, within a second'
}

the_end() {
  chapter 'The end'
  stops team-x-sidecar TERM
  stops team-y-sidecar INT
  stops gateway TERM
  stops control TERM
  stops names TERM
  stops example-com TERM
}
