"""Image bytes and pixels: fetching, headers, decoding, uploads, videos and contact sheets."""
