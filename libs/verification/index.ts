export * from './verification.module';
export * from './verifier';
