import { ValidateIf } from 'class-validator';

/** Checks a field of a body only where it is sent. Unlike `IsOptional`, it takes no null for an absent field. */
export const MayBeAbsent = (): PropertyDecorator => ValidateIf((_, value) => value !== undefined);
