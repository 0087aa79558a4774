// The server of Node: what a user writes with `ws`. Its first argument is where `ws` is installed.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { WebSocketServer } = createRequire(process.argv[2])("ws");

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
server.on("connection", (client) => {
  client.on("error", () => {});
  client.send("welcome");
});
server.on("listening", () => console.log(server.address().port));

const text = (size) => {
  const now = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6));
  return `#${now.toString().padStart(20, "0")}#`.padEnd(size, "x");
};

const say = (size) => {
  const message = text(size);
  for (const client of server.clients) client.send(message);
};

for await (const line of createInterface({ input: process.stdin })) {
  const [count, size, perSecond] = line.split(" ").map(Number);
  const begun = performance.now();
  for (let n = 0; n < count; n += 1) {
    if (perSecond > 0) {
      const due = begun + (1000 / perSecond) * n;
      await new Promise((go) => setTimeout(go, Math.max(0, due - performance.now())));
    }
    say(size);
  }
}
process.exit(0);
