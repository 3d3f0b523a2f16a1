"""Many short errands while everything around them is killed: is nothing lost, and nothing doubled?"""
