"""A next hop that keeps what arrives, byte for byte, and tells trace fields from changes."""
import re
import socketserver
import threading
import time

TRACE = re.compile(rb"(?:(?:Received|Return-Path):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)*")


class Mail:
    def __init__(self, sender, recipients, content):
        self.sender, self.recipients, self.content = sender, recipients, content

    def is_unaltered(self, sent):
        """Whether this is `sent` with nothing but trace fields before it."""
        return self.content.endswith(sent) and bool(TRACE.fullmatch(self.content[: len(self.content) - len(sent)]))

    def hops(self):
        return len(re.findall(rb"^Received:", self.content.partition(b"\r\n\r\n")[0], re.M))


class Session(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        self.say("220 receiver.example ESMTP")
        sender, recipients = None, []
        while line := self.rfile.readline(2000):
            verb, argument = line[:4].upper(), line.rstrip(b"\r\n").decode("utf-8", "replace")
            address = (re.findall(r"<([^>]*)>", argument) or [None])[0]
            if verb == b"EHLO":
                self.say("250-receiver.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 50000000\r\n250 SMTPUTF8")
            elif verb == b"MAIL":
                sender, recipients = argument[argument.index("<"):], []
                self.say("250 2.1.0 Ok")
            elif verb == b"RCPT" and address.startswith("refused@"):
                self.say("550 5.1.1 Unknown here")
            elif verb == b"RCPT":
                recipients.append(address)
                self.say("250 2.1.5 Ok")
            elif verb == b"DATA" and not recipients:
                self.say("554 5.5.1 No recipients")
            elif verb == b"DATA":
                self.say("354 Go on")
                self.server.keep(Mail(sender, recipients, self.content()))
                self.say("250 2.0.0 Kept")
            elif verb == b"QUIT":
                return self.say("221 2.0.0 Bye")
            else:
                self.say("250 2.0.0 Ok")

    def content(self):
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                raise ConnectionError("the content has no end")
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)


class Receiver(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 128

    def __init__(self, port):
        super().__init__(("127.0.0.1", port), Session)
        self.mails, self.arrived = [], threading.Condition()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def keep(self, mail):
        with self.arrived:
            self.mails.append(mail)
            self.arrived.notify_all()

    def take(self, marker, seconds=15):
        """The first mail that contains the marker, which is then no longer kept; None if none comes in time."""
        deadline = time.monotonic() + seconds
        with self.arrived:
            while True:
                for mail in self.mails:
                    if marker in mail.content:
                        self.mails.remove(mail)
                        return mail
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self.arrived.wait(left)
