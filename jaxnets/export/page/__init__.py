"""A network as a page that runs it in a browser: a folder of static files."""
