// The official TypeScript client, `node client.mjs <installed> -- <server> <argument>…`: opens a session with the server,
// lists what it has, makes the calls that come on standard input as `[{"name": …, "arguments": …}]`, and prints what it
// was answered as one JSON object.

import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const [installed, , command, ...args] = process.argv.slice(2);
const load = createRequire(`${installed}/package.json`);
const { Client } = load("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = load("@modelcontextprotocol/sdk/client/stdio.js");

const calls = JSON.parse(await text(process.stdin));
const client = new Client({ name: "typescript-client", version: "1" });
await client.connect(new StdioClientTransport({ command, args, env: process.env }));
const { tools } = await client.listTools();
const { prompts } = await client.listPrompts();
const results = [];
for (const call of calls) {
  results.push(await client.callTool(call));
}
await client.ping();
const told = { server: client.getServerVersion().name, instructions: client.getInstructions(), tools, prompts, results };
await client.close();
console.log(JSON.stringify(told));
