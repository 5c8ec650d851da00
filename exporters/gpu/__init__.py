"""What the GPU exporter is made of.

Every call of the driver happens on a thread of this package (`loops`); a scrape only
reads what they left behind, and never waits for them. `samples`, `integrals`,
`histograms` and `windows` are pure; `fast`, `slow` and `events` call the driver.
"""
