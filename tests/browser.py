"""Headless Chromium over its debugging pipe: what a page logs, requests and shows."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--remote-debugging-pipe")  # fmt: skip


class Page:
    """One tab.

    Attributes:
        problems: messages of the console and the log above the level of information.
        requests: addresses that were asked for, those of data left out.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number, self._session, self._rest = 0, "", b""
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the Chrome DevTools Protocol and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = os.read(self._answers, 1 << 20)
            assert read, "Chromium has closed its pipe"
            self._rest += read
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            url = params["request"]["url"]
            self.requests += [] if url.startswith("data:") else [url]
        if event["method"] == "Log.entryAdded" and params["entry"]["level"] != "info":
            self.problems.append(params["entry"]["text"])
        if event["method"] == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        if event["method"] == "Runtime.consoleAPICalled":
            self.problems.append(json.dumps(params["args"]))

    def show(self, file: Path, width: int = 1200, *, scripts: bool = True) -> None:
        """Load a file into a window of this width, pixels."""
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        self.send("Page.navigate", url=file.absolute().as_uri())
        while self.run("document.readyState") != "complete":
            pass

    def media(self, kind: str = "", scheme: str = "light") -> None:
        """Emulate a medium, such as print, and a colour scheme."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.send("Emulation.setEmulatedMedia", media=kind, features=[feature])

    def run(self, script: str) -> Any:
        """The value of an expression in the page, as JSON."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press Enter, Tab, an arrow, or a key that writes a character."""
        named = {"Enter": (13, "\r"), "Tab": (9, ""), "ArrowDown": (40, ""), "ArrowUp": (38, "")}
        code, text = named.get(key) or (ord(key.upper()), key)
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text,
                      windowsVirtualKeyCode=code)  # fmt: skip

    def pdf(self) -> bytes:
        """The page as it is printed on A4."""
        answer = self.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69,
                           preferCSSPageSize=True, printBackground=True)  # fmt: skip
        return base64.b64decode(answer["data"])

    def picture(self) -> bytes:
        """All of the page, as a PNG."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])


@contextmanager
def open_page(profile: Path) -> Iterator[Page]:
    """A tab of a new Chromium, which keeps its files in the folder `profile`."""
    ours_out, theirs_in = os.pipe(), os.pipe()
    program = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}"]
    null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    actions = [
        (os.POSIX_SPAWN_DUP2, theirs_in[0], 3),
        (os.POSIX_SPAWN_DUP2, ours_out[1], 4),
        null,
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    process = os.posix_spawn(program[0], program, os.environ, file_actions=actions)
    os.close(theirs_in[0])
    os.close(ours_out[1])
    try:
        page = Page(theirs_in[1], ours_out[0])
        yield page
        page.__dict__["_session"] = ""
        page.send("Browser.close")
    finally:
        os.close(theirs_in[1])
        os.close(ours_out[0])
        os.waitpid(process, 0)
