"""From a contract that somebody has already, an OpenAPI document or an MCP server's tools, to skill manifests."""
