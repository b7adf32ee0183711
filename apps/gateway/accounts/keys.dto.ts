import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { grantable, roles, type ApiKey } from '@app/accounts';
import { shown } from '@app/presentation';
import { IsArray, IsIn, IsInt, IsString, Matches, Max, Min } from 'class-validator';
import { Envelope, time } from '../domains/domain.dto';
import { MayBeAbsent } from '../http/may-be-absent';
import { PageEnvelope } from '../http/paging';

export const keyIdForm = /^key_cl[0-9a-z]{25}$/;
export const keyIdParam = { name: 'id', example: 'key_clxxxxxxxxxxxxxxxxxxxxxxxxx' } as const;

const roleNames = Object.keys(roles);
const dayInSeconds = 86_400;
const longestOverlapSeconds = 30 * dayInSeconds;
const overlapForm = { message: `"overlap_seconds" must be a whole number from 0 to ${longestOverlapSeconds}` };

export class CreateKeyRequest {
  @ApiProperty({ example: 'Terraform', minLength: 1, maxLength: 200, description: 'What the key is for.' })
  @Matches(/^[^]{1,200}$/, { message: '"name" must have 1 to 200 characters' })
  @IsString({ message: '"name" must be a string' })
  name: string;

  @ApiPropertyOptional({ enum: roleNames, description: 'Either this or `permissions`.' })
  @MayBeAbsent()
  @IsIn(roleNames, { message: `"role" must be one of ${roleNames.join(', ')}` })
  role?: string;

  @ApiPropertyOptional({
    type: [String],
    enum: grantable,
    isArray: true,
    example: ['domain.read'],
    description: 'Either this or `role`. A key can give only what it may do itself.',
  })
  @MayBeAbsent()
  @IsIn(grantable, { each: true, message: `"permissions" must be some of ${grantable.join(', ')}` })
  @IsArray({ message: '"permissions" must be a list' })
  permissions?: string[];
}

export class RotateKeyRequest {
  @ApiPropertyOptional({
    type: 'integer',
    minimum: 0,
    maximum: longestOverlapSeconds,
    default: dayInSeconds,
    example: 3600,
    description: 'Seconds for which the old key stays valid beside the new one; 0 ends it at once.',
  })
  @MayBeAbsent()
  @IsInt(overlapForm)
  @Min(0, overlapForm)
  @Max(longestOverlapSeconds, overlapForm)
  overlap_seconds = dayInSeconds;
}

export class KeySchema {
  @ApiProperty({ example: 'key_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  id: string;
  @ApiProperty({ example: 'Terraform' })
  name: string;
  @ApiProperty({ example: '4k2z', description: 'The last four characters of the key.' })
  hint: string;
  @ApiProperty({ type: 'string', enum: [...roleNames, null], nullable: true, example: null })
  role: string | null;
  @ApiProperty({ type: [String], example: ['domain.read'], description: 'By the role, or one by one.' })
  permissions: readonly string[];
  @ApiProperty(time)
  created_at: string;
  @ApiProperty({ ...time, nullable: true, description: 'Accurate to about a minute; null where it was never used.' })
  last_used_at: string | null;
  @ApiProperty({
    ...time,
    nullable: true,
    example: null,
    description: 'Set by a rotation, and in a key given by one that ends.',
  })
  expires_at: string | null;
  @ApiProperty({ ...time, nullable: true, example: null })
  revoked_at: string | null;
}

export class NewKeySchema extends KeySchema {
  @ApiProperty({
    example: 'smx_root_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',
    description: 'The key itself. It is in this answer only: we keep nothing by which it could be shown again.',
  })
  key: string;
}

export class KeyEnvelope extends Envelope {
  @ApiProperty({ type: KeySchema })
  data: KeySchema;
}

export class NewKeyEnvelope extends Envelope {
  @ApiProperty({ type: NewKeySchema })
  data: NewKeySchema;
}

export class KeyPageEnvelope extends PageEnvelope {
  @ApiProperty({ type: [KeySchema], description: 'The newest first, revoked ones too.' })
  data: KeySchema[];
}

const shownOrNull = (date: Date | null): string | null => date && shown(date);

export const presentKey = ({ id, name, hint, role, permissions, ...times }: ApiKey): KeySchema => ({
  id,
  name,
  hint,
  role,
  permissions,
  created_at: shown(times.createdAt),
  last_used_at: shownOrNull(times.lastUsedAt),
  expires_at: shownOrNull(times.expiresAt),
  revoked_at: shownOrNull(times.revokedAt),
});

export const presentNewKey = (made: ApiKey & { readonly key: string }): NewKeySchema => ({
  ...presentKey(made),
  key: made.key,
});
