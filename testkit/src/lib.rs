pub mod store_contract;
