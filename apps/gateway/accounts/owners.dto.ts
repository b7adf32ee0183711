import { ApiProperty } from '@nestjs/swagger';
import type { Invitation } from '@app/accounts';
import { shown } from '@app/presentation';
import { IsString, Matches } from 'class-validator';
import { Envelope, time } from '../domains/domain.dto';

export class InviteOwnerRequest {
  @ApiProperty({
    example: 'grace@acme.com',
    minLength: 1,
    maxLength: 320,
    description: 'Who becomes an owner by accepting.',
  })
  @Matches(/^[^]{1,320}$/, { message: '"email" must have 1 to 320 characters' })
  @IsString({ message: '"email" must be one address' })
  email: string;
}

class OwnerSchema {
  @ApiProperty({ example: 'ada@acme.com', description: 'As it was written.' })
  email: string;
}

class InvitationSchema extends OwnerSchema {
  @ApiProperty(time)
  expires_at: string;
}

class OwnersSchema {
  @ApiProperty({ type: [OwnerSchema], description: 'Sorted by address.' })
  owners: OwnerSchema[];
  @ApiProperty({ type: [InvitationSchema], description: 'Those that can still be accepted.' })
  invitations: InvitationSchema[];
}

export class OwnersEnvelope extends Envelope {
  @ApiProperty({ type: OwnersSchema })
  data: OwnersSchema;
}

export class InvitationEnvelope extends Envelope {
  @ApiProperty({ type: InvitationSchema })
  data: InvitationSchema;
}

export const presentInvitation = ({ email, expiresAt }: Invitation): InvitationSchema => ({
  email,
  expires_at: shown(expiresAt),
});

export const presentOwners = (owners: readonly string[], invitations: readonly Invitation[]): OwnersSchema => ({
  owners: owners.map((email) => ({ email })),
  invitations: invitations.map(presentInvitation),
});
