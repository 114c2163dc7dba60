"""As much of an MLflow server as a run needs, on this machine."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


class FakeMlflowServer:
    """Keeps params, metrics and status of runs. ``broken`` True answers 500 to everything."""

    def __init__(self) -> None:
        self.broken = False
        self.headers: list[str | None] = []
        self.runs: dict[str, dict[str, Any]] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self, {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()})

            def do_POST(self) -> None:
                server._answer(
                    self, json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                )

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler, given: dict[str, Any]) -> None:
        self.headers.append(request.headers["Authorization"])
        verb = urlsplit(request.path).path.partition("/mlflow/")[2]
        body = None if self.broken else self._act(verb, given)
        data = json.dumps(
            {"error_code": "INTERNAL_ERROR", "message": "no"} if body is None else body
        ).encode()
        request.send_response(500 if body is None else 200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _act(self, verb: str, given: dict[str, Any]) -> dict[str, Any] | None:
        run = self.runs.get(str(given.get("run_id")), {})
        if verb == "experiments/get-by-name":
            return {"experiment": {"experiment_id": "7", "name": given["experiment_name"]}}
        if verb == "runs/create":
            run_id = f"{len(self.runs):032x}"
            self.runs[run_id] = {"params": {}, "metrics": [], "tags": {}, "status": "RUNNING"}
            return {"run": {"info": {"run_id": run_id, "status": "RUNNING"}, "data": {}}}
        if verb == "runs/log-batch":
            run["metrics"] += given.get("metrics", [])
            run["params"].update({p["key"]: p["value"] for p in given.get("params", [])})
            run["tags"].update({t["key"]: t["value"] for t in given.get("tags", [])})
            return {}
        if verb == "metrics/get-history":
            return {"metrics": [m for m in run["metrics"] if m["key"] == given["metric_key"]]}
        if verb == "runs/update":
            run["status"] = given["status"]
            return {"run_info": {"run_id": given["run_id"], "status": given["status"]}}
        if verb == "runs/get":
            params = [{"key": key, "value": value} for key, value in run["params"].items()]
            info = {"run_id": given["run_id"], "status": run["status"]}
            return {"run": {"info": info, "data": {"params": params}}}
        return None
