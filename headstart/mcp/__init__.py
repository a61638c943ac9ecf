"""The Model Context Protocol, both ways: tools of MCP servers as skills, and skills as an MCP server's tools."""
