"""The demo page in a real browser, driven through chromedriver: python3 test_demo.py SITE [--screenshots DIR]

SITE is a folder with index.html and model/ (docs/demo after `make demo-web`, or a copy). Only the standard library is used.
Prints "ok" and ends with 0, or says what is wrong and ends with 1; 77 if there is no browser.
"""

import argparse
import base64
import functools
import http.client
import http.server
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

LIMIT = 90  # seconds for anything; the machine may be busy
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of a reference to an element (W3C WebDriver)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1000,1100",
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Browser:
    def __init__(self, driver, port, profile):
        self.port = port
        self.log = open(profile / "driver.log", "w", encoding="utf-8")
        self.process = subprocess.Popen([driver, f"--port={port}"], stdout=self.log, stderr=subprocess.STDOUT)
        wait("chromedriver", lambda: self.ready())
        options = {"args": FLAGS + [f"--user-data-dir={profile / 'data'}"], "binary": chromium()}
        asked = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self.session = self.call("POST", "/session", asked)["sessionId"]

    def ready(self):
        try:
            return self.call("GET", "/status")["ready"]
        except OSError:
            return False

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        headers = {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        value = json.loads(answer.read())["value"]
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {value['error']}: {value['message']}")
        return value

    def post(self, path, body):
        return self.call("POST", f"/session/{self.session}{path}", body)

    def open(self, url):
        self.post("/url", {"url": url})

    def run(self, script, *arguments):
        return self.post("/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def element(self, selector):
        return self.post("/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self.post(f"/element/{self.element(selector)}/click", {})

    def keys(self, text):
        """To whatever has the focus."""
        active = self.call("GET", f"/session/{self.session}/element/active")[ELEMENT]
        self.post(f"/element/{active}/value", {"text": text})

    def chrome(self, command, **parameters):
        return self.post("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("GET", f"/session/{self.session}/screenshot")))

    def close(self):
        try:
            self.call("DELETE", f"/session/{self.session}")
        finally:
            self.process.terminate()
            self.process.wait(LIMIT)
            self.log.close()


def chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def wait(what, condition):
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {LIMIT} s")
        time.sleep(0.05)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def equal(what, got, want):
    if got != want:
        raise SystemExit(f"{what}: {got!r}, expected {want!r}")


def check(b, address, shots):
    b.open(address)
    wait("the self-test", lambda: b.text("#selftest") != "–" or b.run("return document.querySelector('#state').dataset.state") == "bad")
    equal("self-test", b.text("#selftest"), "equal")
    equal("state", b.run("return document.querySelector('#state').dataset.state"), "good")

    # With the keyboard alone: the field has the focus, Enter asks.
    b.keys("What's the temp?\ue007")
    wait("an answer", lambda: b.text("#intent") != "–")
    equal("intent", b.text("#intent"), "read_temperature")
    equal("its tokens", b.run("return [...document.querySelectorAll('#tokens span')].map(s => s.textContent).join('')"), "read_temperature")

    # With the mouse, another sentence.
    b.run("document.querySelector('#text').value = ''; document.querySelector('#text').focus()")
    b.keys("How dry is the soil in the greenhouse")
    b.click("#ask")
    wait("the second answer", lambda: b.text("#intent") == "read_soil_moisture")
    speed = b.text("#speed").replace(",", "")
    if not (speed.isdigit() and int(speed) > 0):
        raise SystemExit(f"tokens per second: {speed!r}")
    equal("answers kept", b.run("return document.querySelectorAll('#log li').length"), 2)

    # The other role, by its example; markup in a text stays text.
    b.click("input[value=home]")
    b.click("#examples button")
    wait("the third answer", lambda: b.text("#intent") == "alarm_set")
    b.run("document.querySelector('#text').value = '<b id=evil>x</b>'")
    b.click("#ask")
    wait("the fourth answer", lambda: b.run("return document.querySelectorAll('#log li').length") == 4)
    equal("markup", b.run("return document.querySelector('#evil')"), None)
    if shots:
        b.screenshot(shots / "light.png")

    # A phone, dark: nothing may stick out at the side.
    b.chrome("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    b.chrome("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    equal("width on a phone", b.run("return document.documentElement.scrollWidth"), 360)
    if shots:
        b.screenshot(shots / "phone-dark.png")
    fetched = b.run("return performance.getEntriesByType('resource').map(e => e.name)")
    equal("requests elsewhere", [name for name in fetched if not name.startswith(address)], [])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("site", type=pathlib.Path)
    parser.add_argument("--screenshots", type=pathlib.Path)
    options = parser.parse_args()
    driver = shutil.which("chromedriver")
    if driver is None or chromium() is None:
        print("no chromium and chromedriver (Debian, Ubuntu: apt-get install chromium chromium-driver)")
        return 77
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=options.site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(driver, free_port(), pathlib.Path(profile))
        try:
            check(browser, f"http://127.0.0.1:{server.server_port}/", options.screenshots)
        finally:
            browser.close()
    server.shutdown()
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
