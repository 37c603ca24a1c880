# What the function knows of rotations in flight and of those before: no secret, but what
# decides which key is retired. Package rotator/journal/dynamo defines its form.
resource "aws_dynamodb_table" "journal" {
  name         = var.name
  billing_mode = "PAY_PER_REQUEST" # a few writes a service and quarter
  hash_key     = "user"
  range_key    = "item"

  attribute {
    name = "user"
    type = "S"
  }
  attribute {
    name = "item"
    type = "S"
  }
  attribute {
    name = "in_flight"
    type = "S"
  }

  # Sparse: only rotations in flight are in it.
  global_secondary_index {
    name            = "in-flight"
    hash_key        = "in_flight"
    range_key       = "user"
    projection_type = "ALL"
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  # DynamoDB always encrypts. Not enabled means: with a key that AWS owns.
  server_side_encryption {
    enabled     = var.kms_key_arn != null
    kms_key_arn = var.kms_key_arn
  }

  deletion_protection_enabled = var.deletion_protection
}
