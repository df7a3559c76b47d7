"""The official Python client, `python client.py <era> -- <server> <argument>…`: opens a session with the server in an era
of the protocol, `legacy` (initialize) or `auto` (server/discover first), lists what it has, makes the calls that come on
standard input as `[{"name": …, "arguments": …}]`, and prints what it was answered as one JSON object."""

import asyncio
import json
import os
import sys

from mcp import Client, StdioServerParameters, stdio_client
from mcp.types import Implementation


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def main():
    era, command, arguments = sys.argv[1], sys.argv[3], sys.argv[4:]
    calls = json.load(sys.stdin)
    server = stdio_client(StdioServerParameters(command=command, args=arguments, env=dict(os.environ)))
    us = Implementation(name="python-client", version="1")
    async with Client(server, mode=era, client_info=us) as client:
        told = {
            "protocol": client.protocol_version,
            "server": client.server_info.name,
            "instructions": client.instructions,
            "tools": plain(await client.list_tools())["tools"],
            "prompts": plain(await client.list_prompts())["prompts"],
            "results": [plain(await client.call_tool(call["name"], call["arguments"])) for call in calls],
        }
    print(json.dumps(told))


asyncio.run(main())
