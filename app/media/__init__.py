"""Bytes and pixels: fetching, headers, decoding, uploads, videos and contact sheets."""
