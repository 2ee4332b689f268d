"""People in the loop: an audit that measures, and labels that train; the two never mix."""
