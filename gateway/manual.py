"""What `polygate --help` teaches: the first steps, the exit codes, and examples of each command."""

from __future__ import annotations

EPILOG = """\
exit codes: 0 all is well; 1 the config is wrong, a check failed, or an explained call would be refused; 2 the command line is
  wrong; 3 it could not start

first steps:
  polygate init gateway.yaml               write a commented starter file
  polygate check gateway.yaml              tell everything that is wrong with it
  polygate run gateway.yaml                serve it
  polygate explain "POST /orders/ada"      which route takes a call, and what the call meets on its way
"""

EXAMPLES = {
    "run": """\
examples:
  polygate run                                     config/gateway.yaml
  polygate run my.yaml --log-level warning
  POLYGATE_HOST=0.0.0.0 polygate run my.yaml       where the file says ${POLYGATE_HOST:-127.0.0.1}
  polygate run my.yaml --workers 2                 two processes on the same ports, and one that looks after them
  polygate run my.yaml --check-first               only if every backend is ready

It prints what listens where and a line to try each route, then one JSON line an exchange. SIGTERM or Ctrl-C ends it when
its exchanges have ended (`drain` in the file says how long they have); a second one ends it at once.
""",
    "check": """\
examples:
  polygate check my.yaml                           every problem: file:line, path, remedy
  polygate check --connect my.yaml                 and whether each backend answers, within 5 s
  polygate check --running http://127.0.0.1:9900 my.yaml
                                                   and whether the gateway that runs there has the contracts that load now
  polygate check --json my.yaml | jq .problems     for programs
""",
    "explain": """\
examples:
  polygate explain "POST /orders/ada"              REST: a method and a path
  polygate explain shop.v1.Orders/Place            gRPC: a method
  polygate explain /feed                           WebSocket: a path
  polygate explain "topic quotes.asked"            a record of a topic that is consumed
  polygate explain "POST /orders/ada" --body '{"sku": "tea", "quantity": 2}' -c my.yaml
  polygate explain "POST /orders/ada" --body @order.json

It exits 1 where no route has the call, or where its body would be refused.
""",
    "routes": """\
examples:
  polygate routes my.yaml
  polygate routes my.yaml --json | jq -r '.routes[].route'
""",
    "spool": """\
examples:
  polygate spool list                              what waits for which backend, and what was set aside
  polygate spool export --state aside > aside.ndjson
  polygate spool replay --all --backend events     let what was set aside wait again
  polygate spool drop 5f0c1c1f3a2b-7               let it go for good

What cannot be forwarded is set aside: its broker refuses it, it is too large, or it has waited for longer than `spool.max_age`.
All of this works while the gateway runs, on every file of the spool.
""",
    "openapi": """\
examples:
  polygate openapi my.yaml > openapi.json
  polygate openapi my.yaml --server https://api.shop.example
A running gateway serves the same at /openapi.json of its admin listener, and shows it at /docs.
""",
    "asyncapi": """\
examples:
  polygate asyncapi my.yaml > asyncapi.json
A running gateway serves the same at /asyncapi.json of its admin listener.
""",
    "schema": """\
examples:
  polygate schema > schema.json
and as a line of the config, for editors with yaml-language-server:
  # yaml-language-server: $schema=schema.json
""",
    "init": """\
examples:
  polygate init                                    writes gateway.yaml; never over a file that is there
  polygate init my.yaml && polygate run my.yaml
""",
    "version": """\
examples:
  polygate version --json
""",
}
